"""Media types of requests and answers."""

HOURGLASS_TYPE = "application/vnd.hourglass"
NPY_TYPE = "application/x-npy"
ZIP_TYPE = "application/zip"
FORM_TYPE = "multipart/form-data"
JSON_TYPE = "application/json"
