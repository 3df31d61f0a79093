"""Parses alert expressions: a JSON list on standard input."""

import json
import sys

import promql_parser

for expression in json.load(sys.stdin):
    promql_parser.parse(expression)
