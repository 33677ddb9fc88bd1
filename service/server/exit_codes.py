"""Exit codes of the process."""

EXIT_STOPPED = 0
EXIT_CUT_OFF = 1  # the grace period passed, or a second signal came, before every request was answered
EXIT_CANNOT_START = 2
