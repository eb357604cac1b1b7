{{/* A server's pod. Every template here takes: root, name (the pool's), pool (its values). */}}

{{/* Whether an OCI image's files are copied instead of mounted: "true" or "". */}}
{{- define "nanotriton.server.isCopied" -}}
{{- $image := .pool.model.image -}}
{{- $isOld := semverCompare "<1.35-0" .root.Capabilities.KubeVersion.Version -}}
{{- if and (eq .pool.model.source "image") (or (eq $image.mount "copy") (and (eq $image.mount "auto") $isOld)) -}}true{{- end -}}
{{- end -}}

{{/* Seconds that running requests may take at the end: longer than the longest stream. */}}
{{- define "nanotriton.server.exitSeconds" -}}
{{- .pool.exitSeconds | default (add .root.Values.gateway.maxTimeoutSeconds 5) | int -}}
{{- end -}}

{{/* A setting as the engine takes it: YAML calls `on` true, and Helm turns numbers into fractions. */}}
{{- define "nanotriton.server.setting" -}}
{{- if kindIs "bool" . -}}{{ ternary "on" "off" . }}{{- else if kindIs "string" . -}}{{ . }}{{- else -}}{{ int64 . }}{{- end -}}
{{- end -}}

{{- define "nanotriton.server.container" -}}
name: server
image: {{ include "nanotriton.image" (dict "root" .root "image" .pool.image "tag" .pool.tag) }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command: [python3, -m, nanotriton, serve]
args:
  - --model-repository=/models
  - --address=0.0.0.0
  - --exit-timeout-secs={{ include "nanotriton.server.exitSeconds" . }}
  - --engine=max_slots={{ .pool.slots | int }}
{{- range $name, $value := .pool.engine }}
  - --engine={{ $name }}={{ include "nanotriton.server.setting" $value }}
{{- end }}
{{- range .pool.accept }}
  - --accept={{ . }}
{{- end }}
{{- with .root.Values.tracing.url }}
  - --trace-url={{ . }}
  - --trace-rate={{ $.root.Values.tracing.rate | int }}
{{- end }}
{{- with .pool.extraArgs }}
  - --
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - {name: triton-http, containerPort: 8000}
  - {name: grpc, containerPort: 8001}
  - {name: metrics, containerPort: 8002}
# The stream model's own answer: Triton calls itself ready while models load or are unloaded.
startupProbe:
  httpGet: {path: /v2/models/completion_stream/ready, port: triton-http}
  periodSeconds: 3
  timeoutSeconds: 3
  failureThreshold: {{ max 1 (div (.pool.startupSeconds | int) 3) }}
livenessProbe:
  httpGet: {path: /v2/health/live, port: triton-http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
# A real completion through both doors: Triton's own answers stay good when a model's process is dead.
readinessProbe:
  exec:
    command: [python3, -m, nanotriton.probe, --model-repository=/models, --timeout-s=10]
  periodSeconds: 15
  timeoutSeconds: 25
  failureThreshold: 2
{{- if eq .root.Values.placement "apart" }}
lifecycle:
  preStop:
    exec:
      command: [sleep, "5"]
{{- end }}
securityContext:
  {{- include "nanotriton.containerSecurity" . | nindent 2 }}
{{- $resources := deepCopy .pool.resources }}
{{- if .pool.gpus }}
{{- $gpus := dict .pool.gpuResource (.pool.gpus | int) }}
{{- $resources = fromJson (include "nanotriton.merged" (list $resources (dict "limits" $gpus))) }}
{{- end }}
resources:
  {{- toYaml $resources | nindent 2 }}
volumeMounts:
  - {name: shm, mountPath: /dev/shm}
  - {name: tmp, mountPath: /tmp}
{{- if .pool.plan.enabled }}
  - {name: model, mountPath: /models, readOnly: true}
{{- else if ne .pool.model.source "baked" }}
  {{- include "nanotriton.server.sourceMount" (merge (dict "path" "/models") .) | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The mount of what the source brought, read-only. Comes in beside: path. */}}
{{- define "nanotriton.server.sourceMount" -}}
{{- $model := .pool.model -}}
{{- $folder := "" -}}
{{- if eq $model.source "pvc" -}}
{{- $folder = $model.pvc.subPath -}}
{{- else if and (eq $model.source "image") (not (include "nanotriton.server.isCopied" .)) -}}
{{- $folder = $model.image.path -}}
{{- end -}}
- name: source
  mountPath: {{ .path }}
  readOnly: true
{{- with $folder }}
  subPath: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* What runs before the server: fetches the model, builds its plan. */}}
{{- define "nanotriton.server.initContainers" -}}
{{- $model := .pool.model -}}
{{- $pullPolicy := .root.Values.image.pullPolicy -}}
{{- if eq $model.source "s3" }}
- {{ include "nanotriton.s3" (dict "s3" $model.s3 "name" "fetch" "from" $model.s3.uri "to" "/source" "pullPolicy" $pullPolicy "mounts" "- {name: source, mountPath: /source}") | nindent 2 | trim }}
{{- else if include "nanotriton.server.isCopied" . }}
- name: fetch
  image: {{ $model.image.reference | quote }}
  imagePullPolicy: {{ $pullPolicy }}
  command: [cp, -R, "/{{ $model.image.path }}/.", /source/]
  securityContext:
    {{- include "nanotriton.containerSecurity" . | nindent 4 }}
  resources:
    {{- include "nanotriton.smallResources" . | nindent 4 }}
  volumeMounts:
    - {name: source, mountPath: /source}
{{- end }}
{{- if .pool.plan.enabled }}
- name: plan
  image: {{ include "nanotriton.image" (dict "root" .root "image" .pool.plan.image "tag" "") }}
  imagePullPolicy: {{ $pullPolicy }}
  command: [sh, /scripts/plan.sh]
  env:
    - {name: MAX_BATCH, value: {{ .pool.plan.maxBatch | int | quote }}}
    - {name: CHUNK, value: {{ .pool.plan.chunk | int | quote }}}
  securityContext:
    {{- include "nanotriton.containerSecurity" . | nindent 4 }}
  resources:
    requests: {cpu: "1", memory: 4Gi}
    limits: {memory: 16Gi, {{ .pool.gpuResource }}: {{ .pool.gpus | int }}}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    - {name: scripts, mountPath: /scripts, readOnly: true}
    - {name: plans, mountPath: /plans}
    - {name: model, mountPath: /models}
    {{- include "nanotriton.server.sourceMount" (merge (dict "path" "/source") .) | nindent 4 }}
{{- end }}
{{- end -}}

{{- define "nanotriton.server.volumes" -}}
{{- $model := .pool.model -}}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ .pool.sharedMemory | quote }}}
- name: tmp
  emptyDir: {sizeLimit: {{ .pool.scratch | quote }}}
{{- if .pool.plan.enabled }}
- name: scripts
  configMap: {name: {{ include "nanotriton.fullname" .root }}-scripts}
- name: model
  emptyDir: {sizeLimit: {{ $model.size | quote }}}
{{- end }}
{{- if eq $model.source "pvc" }}
- name: source
  persistentVolumeClaim: {claimName: {{ $model.pvc.claim | quote }}, readOnly: true}
{{- else if or (eq $model.source "s3") (include "nanotriton.server.isCopied" .) }}
- name: source
  emptyDir: {sizeLimit: {{ $model.size | quote }}}
{{- else if eq $model.source "image" }}
- name: source
  image: {reference: {{ $model.image.reference | quote }}, pullPolicy: {{ .root.Values.image.pullPolicy }}}
{{- end }}
{{- end -}}

{{/* The template of a pool's pods; in the placement `sidecar` with a gateway, which starts after Triton
and ends before it, because Triton is a native sidecar (an init container that goes on). */}}
{{- define "nanotriton.server.template" -}}
{{- $isSidecar := eq .root.Values.placement "sidecar" -}}
{{- $about := dict "root" .root "component" "server" "pool" .name -}}
{{- $exit := include "nanotriton.server.exitSeconds" . | int -}}
{{- $initial := include "nanotriton.server.initContainers" . | trim -}}
metadata:
  labels:
    {{- include "nanotriton.podLabels" $about | nindent 4 }}
{{- with .pool.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
{{- end }}
spec:
  {{- include "nanotriton.pod" (dict "root" .root "account" (printf "%s-server" (include "nanotriton.fullname" .root))) | nindent 2 }}
  {{- include "nanotriton.placement" (dict "values" .pool "selector" (include "nanotriton.selector" $about)) | trim | nindent 2 }}
{{- with .pool.runtimeClassName }}
  runtimeClassName: {{ . | quote }}
{{- end }}
  # preStop, then what runs may end, then what is left is killed: longer than the longest stream.
  terminationGracePeriodSeconds: {{ ternary (add (include "nanotriton.gateway.graceSeconds" .root) $exit 10) (add 5 $exit 5 10) $isSidecar }}
{{- if or $initial $isSidecar }}
  initContainers:
{{- with $initial }}
    {{- . | nindent 4 }}
{{- end }}
{{- if $isSidecar }}
    - restartPolicy: Always
      {{- include "nanotriton.server.container" . | nindent 6 }}
{{- end }}
{{- end }}
  containers:
{{- if $isSidecar }}
    - {{ include "nanotriton.gateway.container" (dict "root" .root "backends" (list (dict "name" .name "url" "127.0.0.1:8001")) "slots" .pool.slots) | nindent 6 | trim }}
{{- else }}
    - {{ include "nanotriton.server.container" . | nindent 6 | trim }}
{{- end }}
  volumes:
    {{- include "nanotriton.server.volumes" . | nindent 4 }}
{{- if $isSidecar }}
    {{- include "nanotriton.gateway.volumes" .root | nindent 4 }}
    - name: state
      emptyDir: {sizeLimit: {{ .root.Values.gateway.state.size | quote }}}
{{- end }}
{{- end -}}
