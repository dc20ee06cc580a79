#ifndef SHIM_IOCTL_H
#define SHIM_IOCTL_H
#include_next <sys/ioctl.h>
#include "../../outq.h"
#endif
