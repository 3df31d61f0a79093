{{/* Names, labels, and the checks that a schema cannot make. */}}

{{- define "sluis.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "sluis.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "sluis.selectorLabels" -}}
app.kubernetes.io/name: {{ include "sluis.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ .Values.mode }}
{{- end }}

{{- define "sluis.labels" -}}
{{ include "sluis.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") | trunc 63 }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The labels of the Pods in which Sluis runs: ours, or those of the Pods that another chart makes. */}}
{{- define "sluis.podSelector" -}}
{{- if and (eq .Values.mode "sidecar") (not .Values.sidecar.deployment) }}
{{- toYaml .Values.sidecar.podLabels }}
{{- else }}
{{- include "sluis.selectorLabels" . }}
{{- end }}
{{- end }}

{{- define "sluis.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "sluis.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "sluis.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* What an ingress or a route asks for by name: every host of the apps but "*". As JSON. */}}
{{- define "sluis.hosts" -}}
{{- $hosts := list }}
{{- range .Values.config.apps }}
{{- range .hosts }}
{{- if ne . "*" }}
{{- $hosts = append $hosts . }}
{{- end }}
{{- end }}
{{- end }}
{{- $hosts | uniq | toJson }}
{{- end }}

{{/* Every reason not to render, in words. */}}
{{- define "sluis.check" -}}
{{- $v := .Values }}
{{- $sidecar := eq $v.mode "sidecar" }}
{{- if not $v.image.repository }}
{{- fail "image.repository: name the image of Sluis in your registry" }}
{{- end }}
{{- if not $v.keys.existingSecret }}
{{- fail "keys.existingSecret: name a Secret that holds the master key. To make one: sluis keys generate --out master.key && kubectl create secret generic sluis-keys --from-file=master.key" }}
{{- end }}
{{- if not $v.config.apps }}
{{- fail "config.apps: name at least one app that is to be protected (see config.example.yaml)" }}
{{- end }}
{{- if eq $v.store.kind "sqlite" }}
{{- if gt (int $v.replicas) 1 }}
{{- fail (printf "replicas: %d Pods cannot share one SQLite file. Use store.kind: redis, or one replica" (int $v.replicas)) }}
{{- end }}
{{- if not $v.store.sqlite.persistence.enabled }}
{{- fail "store.sqlite.persistence.enabled: SQLite on an emptyDir would forget every enrolment, lock-out and used code when the Pod moves. Leave it true, name an existingClaim, or use store.kind: redis" }}
{{- end }}
{{- else if not $v.store.redis.config }}
{{- fail "store.redis.config: say where Redis is (see store.redis in config.example.yaml)" }}
{{- else if regexMatch "://[^/\"]*@" (toJson $v.store.redis.config) }}
{{- fail "store.redis.config: a password stands in a URL, and values are kept in the clear; put it in store.redis.existingSecret and name its file, /etc/sluis/redis/…" }}
{{- end }}
{{- if and (eq $v.store.kind "redis") (contains "/etc/sluis/redis/" (toJson $v.store.redis.config)) (not $v.store.redis.existingSecret) }}
{{- fail "store.redis.existingSecret: name the Secret whose entries are the files under /etc/sluis/redis/" }}
{{- end }}
{{- if and (contains "/etc/sluis/mail/" (toJson $v.mail.config)) (not $v.mail.existingSecret) }}
{{- fail "mail.existingSecret: name the Secret whose entries are the files under /etc/sluis/mail/" }}
{{- end }}
{{- if not (or $v.listen.http.enabled $v.listen.https.enabled) }}
{{- fail "listen: enable http, https or both" }}
{{- end }}
{{- if and $v.listen.https.enabled (not $v.listen.https.existingSecret) }}
{{- fail "listen.https.existingSecret: name a Secret of type kubernetes.io/tls" }}
{{- end }}
{{- if and $v.listen.admin.enabled (not $v.listen.admin.existingSecret) }}
{{- fail "listen.admin.existingSecret: tokens and passwords of administrators go there; name a Secret of type kubernetes.io/tls" }}
{{- end }}
{{- if and (or $v.ingress.enabled $v.httpRoute.enabled) (not $v.listen.http.enabled) }}
{{- fail "listen.http.enabled: an ingress or route speaks plain HTTP with Sluis; enable it, or let a Service of type LoadBalancer pass TLS through to listen.https" }}
{{- end }}
{{- if $v.ingress.enabled }}
{{- if not (or $v.ingress.hosts (include "sluis.hosts" . | fromJsonArray)) }}
{{- fail "ingress.hosts: no app names a host other than \"*\"; name the hosts of the ingress" }}
{{- end }}
{{- end }}
{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) }}
{{- fail "httpRoute.parentRefs: name the Gateway that the route belongs to" }}
{{- end }}
{{- if and $v.serviceMonitor.enabled $v.networkPolicy.enabled (not $v.networkPolicy.metricsFrom) }}
{{- fail "networkPolicy.metricsFrom: the NetworkPolicy would close the operations port to Prometheus; name its namespace or Pods" }}
{{- end }}
{{- if and $v.prometheusRule.enabled (not $v.serviceMonitor.enabled) }}
{{- fail "serviceMonitor.enabled: the alerts of prometheusRule need the metrics that it collects" }}
{{- end }}
{{- $ports := dict }}
{{- $used := list (list "listen.operations.port" $v.listen.operations.port) }}
{{- if $v.listen.http.enabled }}
{{- $used = append $used (list "listen.http.port" $v.listen.http.port) }}
{{- end }}
{{- if $v.listen.https.enabled }}
{{- $used = append $used (list "listen.https.port" $v.listen.https.port) }}
{{- end }}
{{- if $v.listen.admin.enabled }}
{{- $used = append $used (list "listen.admin.port" $v.listen.admin.port) }}
{{- end }}
{{- if $sidecar }}
{{- $used = append $used (list "sidecar.app.port" $v.sidecar.app.port) }}
{{- end }}
{{- range $used }}
{{- $port := last . | int | toString }}
{{- if hasKey $ports $port }}
{{- fail (printf "%s: %s is the port of %s already; containers of one Pod share their ports" (first .) $port (get $ports $port)) }}
{{- end }}
{{- $_ := set $ports $port (first .) }}
{{- end }}
{{- if $sidecar }}
{{- if $v.networkPolicy.protect }}
{{- fail "networkPolicy.protect: is for mode gateway; a sidecar's own NetworkPolicy closes the port of its app" }}
{{- end }}
{{- if $v.sidecar.deployment }}
{{- if not $v.sidecar.app.image }}
{{- fail "sidecar.app.image: name the image of the app, or set sidecar.deployment to false and use the templates in your own chart" }}
{{- end }}
{{- else if not $v.sidecar.podLabels }}
{{- fail "sidecar.podLabels: give the labels of the Pods of your chart, so that Service and NetworkPolicy find them" }}
{{- end }}
{{- range $app := $v.config.apps }}
{{- range $upstream := $app.upstreams }}
{{- $url := $upstream }}
{{- if kindIs "map" $upstream }}
{{- $url = $upstream.url }}
{{- end }}
{{- if not (regexMatch "^https?://(127\\.0\\.0\\.1|localhost|\\[::1\\])(:|$)" (toString $url)) }}
{{- fail (printf "config.apps (%s): in mode sidecar the app is in the same Pod, at 127.0.0.1; %s would lead past Sluis. Leave upstreams out" (toString $app.id) (toString $url)) }}
{{- end }}
{{- end }}
{{- end }}
{{- else }}
{{- range $app := $v.config.apps }}
{{- if not $app.upstreams }}
{{- fail (printf "config.apps (%s): upstreams: say where the app runs" (toString $app.id)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The time from the deletion of the Pod to its end, with 5 s to spare. */}}
{{- define "sluis.terminationGracePeriodSeconds" -}}
{{- if eq .Values.mode "sidecar" -}}
{{- add .Values.sidecar.app.preStopSeconds .Values.sidecar.app.terminationSeconds .Values.shutdown.drainSeconds 5 }}
{{- else -}}
{{- add .Values.shutdown.delaySeconds .Values.shutdown.drainSeconds 5 }}
{{- end }}
{{- end }}
