/* Keepalive can be switched on, and its times are the system's. */
#include_next <netinet/tcp.h>
#include "../../no_options.h"
