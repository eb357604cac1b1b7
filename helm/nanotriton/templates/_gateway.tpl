{{/* A gateway's container and volumes. */}}

{{/* Seconds that a gateway may take to end: balancers look elsewhere, then the longest stream. */}}
{{- define "nanotriton.gateway.graceSeconds" -}}
{{- add .Values.gateway.drainSeconds .Values.gateway.maxTimeoutSeconds 25 -}}
{{- end -}}

{{/* Comes in: root, backends (name and url), slots (of all of them). */}}
{{- define "nanotriton.gateway.container" -}}
{{- $values := .root.Values.gateway -}}
name: gateway
image: {{ include "nanotriton.image" (dict "root" .root "image" $values.image "tag" $values.tag) }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command: [python3, -m, gateway, serve]
args:
  - --host=0.0.0.0
  - --port=8080
  - --state=/state
  - --model-name={{ $values.modelName }}
{{- range .backends }}
  - --backend={{ .name }}={{ .url }}
{{- end }}
  - --max-running={{ $values.maxRunning | default .slots | int }}
  - --max-waiting={{ $values.maxWaiting | int }}
  - --timeout-s={{ $values.timeoutSeconds }}
  - --max-timeout-s={{ $values.maxTimeoutSeconds }}
  - --drain-delay-s={{ $values.drainSeconds }}
  - --cache-bytes={{ $values.cacheBytes | int64 }}
  - --insight={{ $values.insight }}
{{- with .root.Values.monitoring.token }}
{{- if .existingSecret }}
  - --insight-token-file=/secrets/metrics/{{ .key }}
{{- end }}
{{- end }}
  - --jwt-audience={{ $values.jwt.audience }}
  - --jwt-secret-file=/secrets/jwt/secret
{{- if $values.prices }}
  - --prices=/prices/prices.json
{{- end }}
{{- range $name, $limit := $values.keyLimits }}
  - --{{ $name | replace "_" "-" }}={{ $limit }}
{{- end }}
{{- with .root.Values.tracing.url }}
  - --trace-url={{ . }}
  - --trace-rate={{ $.root.Values.tracing.rate | int }}
{{- end }}
{{- with $values.extraArgs }}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- include "nanotriton.gateway.environment" .root }}
ports:
  - {name: http, containerPort: 8080}
startupProbe:
  httpGet: {path: /health/live, port: http}
  periodSeconds: 2
  timeoutSeconds: 3
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /health/live, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
# A real completion of a server, at most 3 s old; not while it drains.
readinessProbe:
  httpGet: {path: /health/ready, port: http}
  periodSeconds: 5
  timeoutSeconds: 8
  failureThreshold: 2
securityContext:
  {{- include "nanotriton.containerSecurity" . | nindent 2 }}
resources:
  {{- toYaml $values.resources | nindent 2 }}
volumeMounts:
  - {name: state, mountPath: /state}
  - {name: gateway-tmp, mountPath: /tmp}
  - {name: jwt, mountPath: /secrets/jwt, readOnly: true}
{{- if .root.Values.monitoring.token.existingSecret }}
  - {name: metrics-token, mountPath: /secrets/metrics, readOnly: true}
{{- end }}
{{- if $values.prices }}
  - {name: prices, mountPath: /prices, readOnly: true}
{{- end }}
{{- end -}}

{{/* The addresses that hold passwords, which the gateway takes from its environment alone. */}}
{{- define "nanotriton.gateway.environment" -}}
{{- $database := .Values.gateway.database.existingSecret -}}
{{- $redis := .Values.gateway.redis.existingSecret -}}
{{- if or $database $redis }}
env:
{{- with $database }}
  - name: GATEWAY_DATABASE
    valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: url}}
{{- end }}
{{- with $redis }}
  - name: GATEWAY_REDIS
    valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: url}}
{{- end }}
{{- end }}
{{- end -}}

{{/* All but `state`, which is a claim or not. */}}
{{- define "nanotriton.gateway.volumes" -}}
- name: gateway-tmp
  emptyDir: {sizeLimit: 256Mi}
- name: jwt
  secret: {secretName: {{ include "nanotriton.jwtSecret" . }}, defaultMode: 0440}
{{- with .Values.monitoring.token.existingSecret }}
- name: metrics-token
  secret: {secretName: {{ . | quote }}, defaultMode: 0440}
{{- end }}
{{- if .Values.gateway.prices }}
- name: prices
  configMap: {name: {{ include "nanotriton.fullname" . }}-prices}
{{- end }}
{{- end -}}

{{/* The container that asks the gateways as somebody of this release: a token made on the spot.
Comes in: root, name, args. */}}
{{- define "nanotriton.caller" -}}
name: {{ .name }}
image: {{ include "nanotriton.image" (dict "root" .root "image" .root.Values.gateway.image "tag" .root.Values.gateway.tag) }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command: [python3, /scripts/caller.py]
args:
  {{- toYaml .args | nindent 2 }}
env:
  - {name: JWT_AUDIENCE, value: {{ .root.Values.gateway.jwt.audience | quote }}}
  - {name: JWT_SECRET_FILE, value: /secrets/jwt/secret}
securityContext:
  {{- include "nanotriton.containerSecurity" . | nindent 2 }}
resources:
  {{- include "nanotriton.smallResources" . | nindent 2 }}
volumeMounts:
  - {name: scripts, mountPath: /scripts, readOnly: true}
  - {name: jwt, mountPath: /secrets/jwt, readOnly: true}
  - {name: gateway-tmp, mountPath: /tmp}
{{- end -}}
