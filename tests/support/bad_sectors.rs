//! A file that a program cannot read because of bad sectors: each read fails with `EIO`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

/// The source of a library that replaces the functions of the C library that read files.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_bad(int fd) {
    const char *bad = getenv("BAD_SECTORS");
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (!bad || len < 0) return 0;
    path[len] = 0;
    return !strcmp(path, bad);
}

ssize_t read(int fd, void *buf, size_t len) {
    if (is_bad(fd)) return errno = EIO, -1;
    return ((ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read"))(fd, buf, len);
}

ssize_t pread64(int fd, void *buf, size_t len, off64_t at) {
    if (is_bad(fd)) return errno = EIO, -1;
    return ((ssize_t (*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, "pread64"))(
        fd, buf, len, at);
}
"#;

/// Returns the variables of the environment with which a program cannot read this file.
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
