/* The system calls of a child that shares the launcher's memory, without libc: errno is the launcher's. */
#ifndef UCSPID_ARCH_H
#define UCSPID_ARCH_H

#if !defined(__linux__) || !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the native launcher is for Linux on little-endian machines"
#endif

#include <sys/syscall.h>

#ifndef SYS_close_range
#define SYS_close_range 436      /* on every machine; older than glibc 2.34 do not know it */
#endif

#if defined(__x86_64__) && defined(__LP64__)

/* Returns what the kernel does: a negative errno for an error. */
static inline __attribute__((always_inline)) long
raw_call(long number, long one, long two, long three, long four)
{
	long result;
	register long r10 __asm__("r10") = four;

	__asm__ volatile("syscall"
	    : "=a"(result)
	    : "0"(number), "D"(one), "S"(two), "d"(three), "r"(r10)
	    : "rcx", "r11", "memory");
	return result;
}

#elif defined(__aarch64__) && defined(__LP64__)

static inline __attribute__((always_inline)) long
raw_call(long number, long one, long two, long three, long four)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = one;
	register long x1 __asm__("x1") = two;
	register long x2 __asm__("x2") = three;
	register long x3 __asm__("x3") = four;

	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory", "cc");
	return x0;
}

#else
#error "the native launcher is for x86-64 and aarch64"
#endif

#endif
