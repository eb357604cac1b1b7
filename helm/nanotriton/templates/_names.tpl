{{/* Names, labels, images and the pools with everything filled in. */}}

{{- define "nanotriton.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $whole := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- $whole | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What a selector may hold: it can't be changed later. Comes in: root, component, pool (if any). */}}
{{- define "nanotriton.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .pool }}
nanotriton.io/pool: {{ . }}
{{- end }}
{{- end -}}

{{/* Of pods: nothing that changes with a release of the chart, which would restart them all. */}}
{{- define "nanotriton.podLabels" -}}
{{ include "nanotriton.selector" . }}
{{- with .root.Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "nanotriton.labels" -}}
{{ include "nanotriton.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: nanotriton
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* An image of ours. Comes in: root, image, tag. */}}
{{- define "nanotriton.image" -}}
{{- $values := .root.Values.image -}}
{{- $registry := ternary "" (printf "%s/" $values.registry) (empty $values.registry) -}}
{{- printf "%s%s:%s" $registry .image (coalesce .tag $values.tag .root.Chart.AppVersion) -}}
{{- end -}}

{{/* One map over another, as JSON. Sprig's mergeOverwrite would leave a 0 or an empty list out. */}}
{{- define "nanotriton.merged" -}}
{{- $whole := deepCopy (index . 0) -}}
{{- range $key, $own := index . 1 -}}
{{- $below := get $whole $key -}}
{{- if and (kindIs "map" $own) (kindIs "map" $below) -}}
{{- $own = fromJson (include "nanotriton.merged" (list $below $own)) -}}
{{- end -}}
{{- $_ := set $whole $key $own -}}
{{- end -}}
{{- toJson $whole -}}
{{- end -}}

{{/* Every pool by name, with what `server` says for it, as JSON. */}}
{{- define "nanotriton.pools" -}}
{{- $pools := dict -}}
{{- range $name, $own := .Values.pools -}}
{{- $_ := set $pools $name (fromJson (include "nanotriton.merged" (list $.Values.server (default dict $own)))) -}}
{{- end -}}
{{- toJson $pools -}}
{{- end -}}

{{/* The most pods that a pool may have. */}}
{{- define "nanotriton.most" -}}
{{- ternary .replicas .autoscaling.maxReplicas (eq .autoscaling.kind "none") | int -}}
{{- end -}}

{{/*
The gateways' routes: one backend for each server pod that there may be, as JSON. A name behind which
there is no pod yet costs a request nothing: its breaker is open, and others are asked.
*/}}
{{- define "nanotriton.backends" -}}
{{- $backends := list -}}
{{- range $name, $pool := fromJson (include "nanotriton.pools" .) -}}
{{- $service := printf "%s-%s" (include "nanotriton.fullname" $) $name -}}
{{- range $number := until (include "nanotriton.most" $pool | int) -}}
{{- $host := printf "%s-%d.%s.%s.svc.%s" $service $number $service $.Release.Namespace $.Values.clusterDomain -}}
{{- $backend := dict "name" (printf "%s-%d" $name $number) "url" (printf "%s:8001" $host) "metrics" (printf "%s:8002" $host) "weight" $pool.weight "shadow" $pool.shadow "version" $pool.version -}}
{{- $backends = append $backends $backend -}}
{{- end -}}
{{- end -}}
{{- toJson (dict "backends" $backends) -}}
{{- end -}}

{{- define "nanotriton.jwtSecret" -}}
{{- .Values.gateway.jwt.existingSecret | default (printf "%s-jwt" (include "nanotriton.fullname" .)) -}}
{{- end -}}

{{- define "nanotriton.backupClaim" -}}
{{- .Values.backup.existingClaim | default (printf "%s-backup" (include "nanotriton.fullname" .)) -}}
{{- end -}}

{{/* Where callers inside the cluster reach the gateways. */}}
{{- define "nanotriton.url" -}}
{{- printf "http://%s.%s.svc:%d" (include "nanotriton.fullname" .) .Release.Namespace (.Values.service.port | int) -}}
{{- end -}}
