/* TIOCOUTQ is for terminals.  The number is that of the BSDs and macOS; that of
 * Linux is in SHIM_OUTQ.  Included behind <sys/ioctl.h>. */
enum { SHIM_OUTQ = TIOCOUTQ };
#undef TIOCOUTQ
#define TIOCOUTQ _IOR('t', 115, int)
