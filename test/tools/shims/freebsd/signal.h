/* FreeBSD shows SIGXFSZ to programs of X/Open only. */
#include_next <signal.h>
#if !__XSI_VISIBLE
#undef SIGXFSZ
#endif
