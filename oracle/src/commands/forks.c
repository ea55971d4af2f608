/* Preloaded into the real ipvsadm: runs its main in a child for each request on
   standard input, so that thousands of commands cost one start of the program.
   A request: the number of words, each with its length, then the input with its
   length. An answer: exit status, both lengths, both outputs. All numbers have 32 bits. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

typedef int (*entry)(int, char **, char **);
static entry original;

static void get(void *to, size_t length)
{
	char *at = to;
	while (length > 0) {
		ssize_t count = read(0, at, length);
		if (count <= 0)
			_exit(0);
		at += count;
		length -= count;
	}
}

static void put(const void *from, size_t length)
{
	const char *at = from;
	while (length > 0) {
		ssize_t count = write(1, at, length);
		if (count <= 0)
			_exit(1);
		at += count;
		length -= count;
	}
}

static char *get_text(uint32_t *length)
{
	get(length, sizeof *length);
	char *text = calloc(*length + 1, 1);
	get(text, *length);
	return text;
}

static int file(void)
{
	return memfd_create("file", MFD_CLOEXEC);
}

static void put_file(int fd, uint32_t length)
{
	char *text = malloc(length + 1);
	if (pread(fd, text, length, 0) != (ssize_t)length)
		_exit(1);
	put(text, length);
	free(text);
}

static int serve(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
	for (;;) {
		uint32_t count, length;
		get(&count, sizeof count);
		char **words = calloc(count + 1, sizeof *words);
		for (uint32_t i = 0; i < count; i++)
			words[i] = get_text(&length);
		char *input = get_text(&length);
		int in = file(), out = file(), err = file();
		if (write(in, input, length) != (ssize_t)length)
			_exit(1);
		lseek(in, 0, SEEK_SET);
		pid_t pid = fork();
		if (pid == 0) {
			dup2(in, 0);
			dup2(out, 1);
			dup2(err, 2);
			exit(original((int)count, words, envp));
		}
		int status = 0;
		waitpid(pid, &status, 0);
		uint32_t answer[3] = {
			WIFEXITED(status) ? WEXITSTATUS(status) : UINT32_MAX,
			lseek(out, 0, SEEK_END),
			lseek(err, 0, SEEK_END),
		};
		put(answer, sizeof answer);
		put_file(out, answer[1]);
		put_file(err, answer[2]);
		close(in);
		close(out);
		close(err);
		for (uint32_t i = 0; i < count; i++)
			free(words[i]);
		free(words);
		free(input);
	}
}

int __libc_start_main(entry main, int argc, char **argv, void (*init)(void), void (*fini)(void),
		      void (*rtld_fini)(void), void *stack_end)
{
	typedef int (*start)(entry, int, char **, void (*)(void), void (*)(void), void (*)(void), void *);
	start next = (start)dlsym(RTLD_NEXT, "__libc_start_main");
	original = main;
	return next(serve, argc, argv, init, fini, rtld_fini, stack_end);
}
