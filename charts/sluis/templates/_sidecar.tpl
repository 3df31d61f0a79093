{{/* For your own chart: give these templates `.Subcharts.sluis` as their context. README.md shows where each goes. */}}

{{/* An item of `initContainers`: a native sidecar, started before the app and stopped after it. */}}
{{- define "sluis.sidecar.container" -}}
{{- include "sluis.check" . }}
{{- if ne .Values.mode "sidecar" }}
{{- fail "sluis.sidecar.container: set mode: sidecar" }}
{{- end }}
{{- include "sluis.container" . }}
{{- end }}

{{/* Items of `volumes`. */}}
{{- define "sluis.sidecar.volumes" -}}
{{- include "sluis.volumes" . }}
{{- end }}

{{/* `securityContext` of the Pod: Sluis reads its Secrets by this group. */}}
{{- define "sluis.sidecar.podSecurityContext" -}}
fsGroup: {{ .Values.runAs.group }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}

{{/* `annotations` of the Pod: a change that Sluis cannot take over while running starts it anew. */}}
{{- define "sluis.sidecar.podAnnotations" -}}
checksum/sluis-restart: {{ include "sluis.restartChecksum" . }}
{{- end }}

{{/* `lifecycle` of the app's container: it goes on while its Pod is taken out of the Service. */}}
{{- define "sluis.sidecar.appLifecycle" -}}
preStop:
  sleep: { seconds: {{ .Values.sidecar.app.preStopSeconds }} }
{{- end }}

{{/* `terminationGracePeriodSeconds` of the Pod. */}}
{{- define "sluis.sidecar.terminationGracePeriodSeconds" -}}
{{- include "sluis.terminationGracePeriodSeconds" . }}
{{- end }}
