"""Media types that requests and answers name."""

HOURGLASS_TYPE = "application/vnd.hourglass"
