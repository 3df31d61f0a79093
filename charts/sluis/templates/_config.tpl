{{/* The configuration file, as YAML. What the chart itself knows (ports, paths of mounted files, times of a stop) is
     set here and nowhere else. */}}

{{- define "sluis.address" -}}
{{- if contains ":" .host }}{{ printf "[%s]:%d" .host (int .port) }}{{ else }}{{ printf "%s:%d" .host (int .port) }}{{ end }}
{{- end }}

{{- define "sluis.config" -}}
{{- $v := .Values }}
{{- $host := $v.listen.host }}
{{- $listen := dict
      "operations" (include "sluis.address" (dict "host" $host "port" $v.listen.operations.port))
      "control" "/run/sluis/control.sock" }}
{{- if $v.listen.http.enabled }}
{{- $_ := set $listen "http" (dict
      "address" (include "sluis.address" (dict "host" $host "port" $v.listen.http.port))
      "proxy_protocol" $v.listen.http.proxyProtocol) }}
{{- end }}
{{- if $v.listen.https.enabled }}
{{- $_ := set $listen "https" (dict
      "address" (include "sluis.address" (dict "host" $host "port" $v.listen.https.port))
      "certificate_file" "/etc/sluis/tls/tls.crt"
      "key_file" "/etc/sluis/tls/tls.key"
      "http2" $v.listen.https.http2
      "proxy_protocol" $v.listen.https.proxyProtocol) }}
{{- end }}
{{- if $v.listen.admin.enabled }}
{{- $_ := set $listen "admin" (dict
      "address" (include "sluis.address" (dict "host" $host "port" $v.listen.admin.port))
      "certificate_file" "/etc/sluis/admin/tls.crt"
      "key_file" "/etc/sluis/admin/tls.key") }}
{{- end }}
{{- $keys := list }}
{{- range $v.keys.names }}
{{- $keys = append $keys (dict "file" (printf "/etc/sluis/keys/%s" .)) }}
{{- end }}
{{- $store := dict "sqlite" (dict "path" "/var/lib/sluis/sluis.db") }}
{{- if eq $v.store.kind "redis" }}
{{- $store = dict "redis" $v.store.redis.config }}
{{- end }}
{{- /* A sidecar gets its SIGTERM when the app has ended already: there is nothing to wait for. */}}
{{- $delay := ternary 0 (int $v.shutdown.delaySeconds) (eq $v.mode "sidecar") }}
{{- $apps := list }}
{{- range $v.config.apps }}
{{- $app := deepCopy . }}
{{- if and (eq $v.mode "sidecar") (not $app.upstreams) }}
{{- $_ := set $app "upstreams" (list (printf "http://127.0.0.1:%d" (int $v.sidecar.app.port))) }}
{{- end }}
{{- $apps = append $apps $app }}
{{- end }}
{{- $config := deepCopy $v.config }}
{{- $_ := set $config "listen" $listen }}
{{- $_ := set $config "keys" $keys }}
{{- $_ := set $config "store" $store }}
{{- $_ := set $config "shutdown" (dict "delay" (printf "%ds" $delay) "drain" (printf "%ds" (int $v.shutdown.drainSeconds))) }}
{{- $_ := set $config "apps" $apps }}
{{- if $v.mail.config }}
{{- $_ := set $config "mail" $v.mail.config }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{/* Changes exactly when something changed that a running Sluis does not take over by itself. */}}
{{- define "sluis.restartChecksum" -}}
{{- $config := include "sluis.config" . | fromYaml }}
{{- $fixed := pick $config "listen" "store" "threads" "revocation" }}
{{- $_ := set $fixed "format" (dig "log" "format" "" $config) }}
{{- /* These two are taken once for HTTP/2. */}}
{{- $_ := set $fixed "limits" (pick (dig "limits" (dict) $config) "header_bytes" "keepalive_timeout") }}
{{- $fixed | toJson | sha256sum }}
{{- end }}
