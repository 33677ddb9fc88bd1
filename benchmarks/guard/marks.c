// Tells callgrind from Python where the counted part begins and ends.
#include <valgrind/callgrind.h>

void begin(void) { CALLGRIND_ZERO_STATS; }
void end(const char *name) { CALLGRIND_DUMP_STATS_AT(name); }
