{{/* The container of Sluis and its volumes: the same in its own Pod and as a sidecar.

     Everything is mounted as a directory: files in a mounted directory follow a change of the ConfigMap or Secret, one
     mounted by subPath would never. */}}

{{- define "sluis.container" -}}
name: sluis
image: {{ include "sluis.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [serve, --config, /etc/sluis/config/config.yaml]
{{- if eq .Values.mode "sidecar" }}
restartPolicy: Always
{{- end }}
ports:
  {{- if .Values.listen.http.enabled }}
  - { name: sluis-http, containerPort: {{ .Values.listen.http.port }}, protocol: TCP }
  {{- end }}
  {{- if .Values.listen.https.enabled }}
  - { name: sluis-https, containerPort: {{ .Values.listen.https.port }}, protocol: TCP }
  {{- end }}
  {{- if .Values.listen.admin.enabled }}
  - { name: sluis-admin, containerPort: {{ .Values.listen.admin.port }}, protocol: TCP }
  {{- end }}
  - { name: sluis-ops, containerPort: {{ .Values.listen.operations.port }}, protocol: TCP }
startupProbe:
  httpGet: { path: /livez, port: {{ .Values.listen.operations.port }} }
  periodSeconds: 1
  failureThreshold: 60
readinessProbe:
  httpGet: { path: /readyz, port: {{ .Values.listen.operations.port }} }
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
livenessProbe:
  httpGet: { path: /livez, port: {{ .Values.listen.operations.port }} }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  {{- include "sluis.containerSecurityContext" . | nindent 2 }}
  readOnlyRootFilesystem: true
  runAsUser: {{ .Values.runAs.user }}
  runAsGroup: {{ .Values.runAs.group }}
volumeMounts:
  - { name: sluis-config, mountPath: /etc/sluis/config, readOnly: true }
  - { name: sluis-keys, mountPath: /etc/sluis/keys, readOnly: true }
  {{- if .Values.listen.https.enabled }}
  - { name: sluis-tls, mountPath: /etc/sluis/tls, readOnly: true }
  {{- end }}
  {{- if .Values.listen.admin.enabled }}
  - { name: sluis-admin, mountPath: /etc/sluis/admin, readOnly: true }
  {{- end }}
  {{- if eq .Values.store.kind "sqlite" }}
  - { name: sluis-data, mountPath: /var/lib/sluis }
  {{- else if .Values.store.redis.existingSecret }}
  - { name: sluis-redis, mountPath: /etc/sluis/redis, readOnly: true }
  {{- end }}
  {{- if .Values.mail.existingSecret }}
  - { name: sluis-mail, mountPath: /etc/sluis/mail, readOnly: true }
  {{- end }}
  - { name: sluis-run, mountPath: /run/sluis }
{{- end }}

{{- define "sluis.containerSecurityContext" -}}
allowPrivilegeEscalation: false
capabilities: { drop: [ALL] }
runAsNonRoot: true
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{/* Secrets are read by the group alone (mode 0440, 288 in decimal); in the container of the app they are not mounted. */}}
{{- define "sluis.podSecurityContext" -}}
runAsNonRoot: true
fsGroup: {{ .Values.runAs.group }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "sluis.volumes" -}}
- name: sluis-config
  configMap: { name: {{ include "sluis.fullname" . }} }
- name: sluis-keys
  secret: { secretName: {{ .Values.keys.existingSecret | quote }}, defaultMode: 288 }
{{- if .Values.listen.https.enabled }}
- name: sluis-tls
  secret: { secretName: {{ .Values.listen.https.existingSecret | quote }}, defaultMode: 288 }
{{- end }}
{{- if .Values.listen.admin.enabled }}
- name: sluis-admin
  secret: { secretName: {{ .Values.listen.admin.existingSecret | quote }}, defaultMode: 288 }
{{- end }}
{{- if eq .Values.store.kind "sqlite" }}
- name: sluis-data
  persistentVolumeClaim: { claimName: {{ default (include "sluis.fullname" .) .Values.store.sqlite.persistence.existingClaim }} }
{{- else if .Values.store.redis.existingSecret }}
- name: sluis-redis
  secret: { secretName: {{ .Values.store.redis.existingSecret | quote }}, defaultMode: 288 }
{{- end }}
{{- if .Values.mail.existingSecret }}
- name: sluis-mail
  secret: { secretName: {{ .Values.mail.existingSecret | quote }}, defaultMode: 288 }
{{- end }}
- name: sluis-run
  emptyDir: { medium: Memory, sizeLimit: 1Mi }
{{- end }}
