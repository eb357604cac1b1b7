{{/* What pods of every kind share. */}}

{{/* The beginning of a pod's spec. Comes in: root, account (name of a ServiceAccount). */}}
{{- define "nanotriton.pod" -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . | quote }}
{{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "nanotriton.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* What a small program needs that runs once. */}}
{{- define "nanotriton.smallResources" -}}
requests: {cpu: 100m, memory: 128Mi}
limits: {memory: 512Mi}
{{- end -}}

{{/* Where pods may and should run. Comes in: values (nodeSelector and so on), selector (as text). */}}
{{- define "nanotriton.placement" -}}
{{- with .values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
{{- if .values.affinity }}
  {{- toYaml .values.affinity | nindent 2 }}
{{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- .selector | nindent 14 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: {{ .values.zoneSpread }}
    labelSelector:
      matchLabels:
        {{- .selector | nindent 8 }}
{{- end -}}

{{/* A PersistentVolumeClaim's spec. Comes in: size, storageClass. */}}
{{- define "nanotriton.claim" -}}
accessModes: [ReadWriteOnce]
{{- with .storageClass }}
storageClassName: {{ . | quote }}
{{- end }}
resources:
  requests:
    storage: {{ .size | quote }}
{{- end -}}

{{/* The container that copies to or from S3. Comes in: s3, name, from, to, mounts (as text). */}}
{{- define "nanotriton.s3" -}}
name: {{ .name }}
image: {{ .s3.image | quote }}
imagePullPolicy: {{ .pullPolicy }}
args:
  - s3
  - sync
  - {{ .from }}
  - {{ .to }}
  - --only-show-errors
{{- with .s3.endpoint }}
  - --endpoint-url={{ . }}
{{- end }}
env:
  - {name: HOME, value: /tmp}
{{- with .s3.region }}
  - {name: AWS_REGION, value: {{ . | quote }}}
{{- end }}
{{- with .s3.existingSecret }}
envFrom:
  - secretRef: {name: {{ . | quote }}}
{{- end }}
securityContext:
  {{- include "nanotriton.containerSecurity" . | nindent 2 }}
resources:
  {{- include "nanotriton.smallResources" . | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- .mounts | nindent 2 }}
{{- end -}}
