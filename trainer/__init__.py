"""Trains and scores facial-emotion networks: `python -m trainer`."""

import os

# Before the first import of onnxruntime, whose wheels send usage data to Microsoft otherwise.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
