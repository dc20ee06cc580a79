/* POSIX has TCP_NODELAY alone. */
#include_next <netinet/tcp.h>
#include "../../no_options.h"
