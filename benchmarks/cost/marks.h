/* Marks around what is counted, for programs that run under callgrind or strace. See marks.c. */
#ifndef MARKS_H
#define MARKS_H

#include <stdint.h>

/* What follows is counted, as so many jobs of a path; with mark_end it is over. The name has no blanks. */
void mark_begin(const char *path, uint64_t jobs);
void mark_end(const char *path, uint64_t jobs);

/* Ends the program with a message if it runs under valgrind and the pool's clock was not slowed down there. */
void mark_check(void);

#endif
