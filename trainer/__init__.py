"""Trains and scores facial-emotion networks: `python -m trainer`."""

import os

# Before the first import of onnxruntime, whose wheels otherwise send usage data to Microsoft.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
