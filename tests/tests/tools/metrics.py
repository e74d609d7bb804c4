"""Reads OpenMetrics text from standard input with Prometheus' own parser, and prints it as JSON:
families by name, each a list of [labels, value]."""
import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families

families = {}
for family in text_string_to_metric_families(sys.stdin.read()):
    for sample in family.samples:
        families.setdefault(sample.name, []).append([sample.labels, sample.value])
json.dump(families, sys.stdout)
