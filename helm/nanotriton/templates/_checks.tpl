{{/* What the schema can't see: values that don't go together. Each sentence tells value, limit, mend. */}}
{{- define "nanotriton.checks" -}}
{{- $gateway := .Values.gateway -}}
{{- $database := $gateway.database.existingSecret -}}
{{- $isSidecar := eq .Values.placement "sidecar" -}}
{{- $pools := fromJson (include "nanotriton.pools" .) -}}
{{- if not $pools -}}
{{- fail "pools is empty: keep at least one, such as pools.stable" -}}
{{- end -}}
{{- $weights := 0.0 -}}
{{- $pods := 0 -}}
{{- range $name, $pool := $pools -}}
{{- include "nanotriton.checks.pool" (dict "name" $name "pool" $pool "isSidecar" $isSidecar) -}}
{{- $weights = addf $weights $pool.weight -}}
{{- $pods = add $pods (include "nanotriton.most" $pool) -}}
{{- end -}}
{{- if eq $weights 0.0 -}}
{{- fail "no pool has a weight above 0: nobody would be served, give at least one" -}}
{{- end -}}
{{- if and (not $isSidecar) (gt $pods 64) -}}
{{- fail (printf "the pools may have %d pods, gateways know at most 64: lower replicas or maxReplicas, or set placement=sidecar" $pods) -}}
{{- end -}}
{{- if and (not $database) (or $gateway.autoscaling.enabled (gt (int $gateway.replicas) 1)) -}}
{{- fail "several gateways share one PostgreSQL: name the Secret with its url in gateway.database.existingSecret, or set gateway.replicas=1 without autoscaling" -}}
{{- end -}}
{{- if and (not $database) (or $isSidecar (eq $gateway.state.kind "emptyDir")) -}}
{{- fail "keys and accounts would go with the pod: name a Secret with PostgreSQL's url in gateway.database.existingSecret, or set placement=apart and gateway.state.kind=claim" -}}
{{- end -}}
{{- if gt (int $gateway.timeoutSeconds) (int $gateway.maxTimeoutSeconds) -}}
{{- fail (printf "gateway.timeoutSeconds is %v, gateway.maxTimeoutSeconds %v: give at most the latter" $gateway.timeoutSeconds $gateway.maxTimeoutSeconds) -}}
{{- end -}}
{{- if and (eq $gateway.insight "near") (eq .Values.service.type "LoadBalancer") -}}
{{- fail "gateway.insight=near shows /metrics to whoever a balancer makes look near: set gateway.insight=admin, or service.type=ClusterIP" -}}
{{- end -}}
{{- if and .Values.monitoring.enabled (eq $gateway.insight "admin") (not .Values.monitoring.token.existingSecret) -}}
{{- fail "Prometheus needs a token for the gateway's /metrics: name a Secret with one in monitoring.token.existingSecret, or set gateway.insight=near" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parents) -}}
{{- fail "httpRoute.parents is empty: name the Gateway that the route hangs on" -}}
{{- end -}}
{{- if and .Values.ingress.tlsSecret (not .Values.ingress.hosts) -}}
{{- fail "ingress.tlsSecret is set and ingress.hosts is empty: name the hosts of the certificate" -}}
{{- end -}}
{{- if and .Values.backup.restore (not .Values.backup.enabled) -}}
{{- fail "backup.restore is set and backup.enabled is false: set backup.enabled=true, whose claim holds the file" -}}
{{- end -}}
{{- if and .Values.backup.restore $isSidecar -}}
{{- fail "backup.restore fills a database that no gateway uses yet: set placement=apart for as long" -}}
{{- end -}}
{{- end -}}

{{- define "nanotriton.checks.pool" -}}
{{- $model := .pool.model -}}
{{- if and (eq $model.source "pvc") (not $model.pvc.claim) -}}
{{- fail (printf "pool %s takes its model from a claim and model.pvc.claim is empty: name it" .name) -}}
{{- end -}}
{{- if and (eq $model.source "s3") (not $model.s3.uri) -}}
{{- fail (printf "pool %s takes its model from S3 and model.s3.uri is empty: give one such as s3://bucket/repository" .name) -}}
{{- end -}}
{{- if and (eq $model.source "image") (not $model.image.reference) -}}
{{- fail (printf "pool %s takes its model from an OCI image and model.image.reference is empty: name it" .name) -}}
{{- end -}}
{{- if .pool.plan.enabled -}}
{{- if not .pool.gpus -}}
{{- fail (printf "pool %s builds a plan and gpus is 0: a plan is built for the node's GPU, give at least 1" .name) -}}
{{- end -}}
{{- if eq $model.source "baked" -}}
{{- fail (printf "pool %s builds a plan and model.source is baked: give pvc, s3 or image with a working folder of `python -m export plan --builder none`" .name) -}}
{{- end -}}
{{- if .isSidecar -}}
{{- fail (printf "pool %s builds a plan in the placement sidecar, whose pods keep no volume for it: set placement=apart, or give a repository with the plan in it" .name) -}}
{{- end -}}
{{- end -}}
{{- if and .isSidecar .pool.shadow -}}
{{- fail (printf "pool %s has the shadow %v, which needs a gateway that knows all pools: set placement=apart, or shadow=0" .name .pool.shadow) -}}
{{- end -}}
{{- if and .isSidecar (ne (floor .pool.weight) (float64 .pool.weight)) -}}
{{- fail (printf "pool %s has the weight %v: in the placement sidecar weights are an HTTPRoute's, give whole numbers" .name .pool.weight) -}}
{{- end -}}
{{- if and (ne .pool.autoscaling.kind "none") (gt (int .pool.autoscaling.minReplicas) (int .pool.autoscaling.maxReplicas)) -}}
{{- fail (printf "pool %s has autoscaling.minReplicas %v and maxReplicas %v: give at most the latter" .name .pool.autoscaling.minReplicas .pool.autoscaling.maxReplicas) -}}
{{- end -}}
{{- end -}}
