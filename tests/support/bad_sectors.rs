//! Lets a program fail to read a file or a part of it, as if the disk had bad sectors: reads fail
//! with `EIO`.

use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

/// The C source of a library that replaces the functions `read` and `pread64` of the C library.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_bad(int fd, long long at, size_t count) {
    const char *bad = getenv("BAD_SECTORS"), *range = getenv("BAD_RANGE");
    long long from, to;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (!bad || len < 0) return 0;
    path[len] = 0;
    if (strcmp(path, bad)) return 0;
    if (!range || sscanf(range, "%lld-%lld", &from, &to) != 2) return 1;
    if (at < 0) at = lseek64(fd, 0, SEEK_CUR);
    return at < to && at + (long long)count > from;
}

ssize_t read(int fd, void *buf, size_t len) {
    if (is_bad(fd, -1, len)) return errno = EIO, -1;
    return ((ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read"))(fd, buf, len);
}

ssize_t pread64(int fd, void *buf, size_t len, off64_t at) {
    if (is_bad(fd, at, len)) return errno = EIO, -1;
    return ((ssize_t (*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, "pread64"))(
        fd, buf, len, at);
}
"#;

/// Returns environment variables with which a program cannot read this file.
pub(crate) fn bad_sectors(file: &Path) -> [(&'static str, PathBuf); 2] {
    static LIBRARY: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, library) = LIBRARY.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let [source, library] = ["bad.c", "bad.so"].map(|name| directory.path().join(name));
        std::fs::write(&source, SOURCE).unwrap();
        let mut compiler = Command::new("cc");
        compiler
            .args(["-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .arg("-ldl");
        assert!(compiler.status().unwrap().success());
        (directory, library)
    });
    let file = file.canonicalize().unwrap();
    [("LD_PRELOAD", library.clone()), ("BAD_SECTORS", file)]
}

/// Returns environment variables with which a program cannot read these bytes of a file.
pub(crate) fn bad_range(file: &Path, range: &Range<u64>) -> [(&'static str, OsString); 3] {
    let [library, file] = bad_sectors(file).map(|(name, value)| (name, value.into_os_string()));
    let range = format!("{}-{}", range.start, range.end);
    [library, file, ("BAD_RANGE", range.into())]
}
