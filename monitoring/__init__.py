"""Dashboards and their pictures; the rules lie in helm/nanotriton/monitoring/rules as they are."""
