import os

__version__ = "0.1.0"

# onnxruntime would report to its maker, and keep an id of the machine at home. It looks when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
