//! Locations of repositories, as users write them.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;

use crate::storage::SftpServer;

use super::failure::{Code, Failure};

/// The location of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// A directory on this host; an absolute path.
    Local(PathBuf),
    Sftp(SftpLocation),
}

/// A directory on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SftpLocation {
    pub(crate) server: SftpServer,
    /// Relative paths start at the login directory.
    pub(crate) path: String,
    /// The location as the user wrote it.
    text: String,
}

impl Location {
    /// Returns whether the repository is on a server, so that each request costs a round trip. Then
    /// it is worth caching objects on this host.
    pub(crate) const fn is_remote(&self) -> bool {
        match self {
            Self::Local(_) => false,
            Self::Sftp(_) => true,
        }
    }

    /// Returns a form in which locations can be compared. For a directory on this host, resolves
    /// links as far as the path exists. For a directory on a server, both SFTP syntaxes give the
    /// same form. Links on the server are not resolved, and a missing user or port is not added.
    pub(crate) fn canonical(&self) -> String {
        match self {
            Self::Local(path) => {
                let real = path.ancestors().find_map(|part| {
                    let existing = part.canonicalize().ok()?;
                    let rest = path.strip_prefix(part).ok()?;
                    // Joining an empty path would add a slash.
                    Some(existing.components().chain(rest.components()).collect())
                });
                let real: Option<PathBuf> = real;
                real.as_ref().unwrap_or(path).display().to_string()
            }
            Self::Sftp(SftpLocation { server, path, .. }) => {
                let user = server.user.as_ref().map(|user| format!("{user}@"));
                let port = server.port.map(|port| format!(":{port}"));
                format!(
                    "sftp://{}{}{}/{path}",
                    user.unwrap_or_default(),
                    server.host,
                    port.unwrap_or_default()
                )
            }
        }
    }

    /// Compares the canonical forms. Returns whether both locations are the same directory, or one
    /// is below the other.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let (one, two) = (self.canonical(), other.canonical());
        let is_below = |below: &str, above: &str| {
            let rest = below.strip_prefix(above);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || above == "/")
        };
        self.is_remote() == other.is_remote() && (is_below(&one, &two) || is_below(&two, &one))
    }

    /// Parses a location. Resolves a relative path on this host against the current directory.
    pub(crate) fn parse(text: &OsStr) -> Result<Self, Failure> {
        let shown = without_password(text);
        match scheme(text) {
            None if is_like_scp(text) => {
                return Err(Failure::usage(format!(
                    "the repository “{shown}” looks like a directory on a server"
                ))
                .hint(format!(
                    "write sftp:{shown}, or ./{shown} for a directory on this host"
                )));
            }
            None => {}
            Some("sftp") => return SftpLocation::parse(text).map(Self::Sftp),
            Some(scheme) => {
                return Err(Failure::usage(format!(
                    "this version cannot use the repository “{shown}”: it does not support \
                     “{scheme}:”"
                ))
                .hint(
                    "give a directory, such as /srv/backup (./a:b if its name contains a colon), \
                     or sftp:USER@HOST:PATH",
                ));
            }
        }
        if text.is_empty() {
            return Err(Failure::usage("the repository location is empty")
                .hint("set it with --repo or CUTTLEBONE_REPOSITORY"));
        }
        std::path::absolute(text).map(Self::Local).map_err(|error| {
            Failure::new(Code::Failed, "could not determine the current directory")
                .caused_by(Some(&error))
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => path.display().fmt(f),
            Self::Sftp(sftp) => f.write_str(&sftp.text),
        }
    }
}

impl SftpLocation {
    /// Parses the two forms that restic has, too. In `sftp:[USER@]HOST:PATH`, a path without a
    /// leading `/` is relative to the login directory. In `sftp://[USER@]HOST[:PORT]/PATH`, an
    /// absolute path starts with a second `/`.
    fn parse(text: &OsStr) -> Result<Self, Failure> {
        let refuse = |why: &str| {
            Failure::usage(format!(
                "the repository “{}” cannot be used: {why}",
                without_password(text)
            ))
            .hint(
                "write sftp:USER@HOST:PATH, or sftp://USER@HOST:PORT/PATH (//PATH if the path is \
                 absolute)",
            )
        };
        let whole = text
            .to_str()
            .ok_or_else(|| refuse("it is not valid UTF-8"))?;
        if whole.contains(char::is_control) {
            return Err(refuse("it contains control characters"));
        }
        let rest = whole.strip_prefix("sftp:").unwrap_or(whole);
        let (authority, port, path) = if let Some(url) = rest.strip_prefix("//") {
            let (authority, path) = url
                .split_once('/')
                .ok_or_else(|| refuse("it names no directory"))?;
            let (authority, port) = split_port(authority);
            let port = match port.map(str::parse) {
                None => None,
                Some(Ok(port @ 1..)) => Some(port),
                Some(_) => return Err(refuse("its port is not a number from 1 to 65535")),
            };
            (authority, port, path)
        } else {
            let (authority, path) =
                split_host(rest).ok_or_else(|| refuse("no “:” follows the host"))?;
            (authority, None, path)
        };
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let is_user_invalid = user.is_some_and(|user| user.is_empty() || user.starts_with('-'));
        if host.is_empty() || host.starts_with('-') || host.contains([' ', '/']) {
            return Err(refuse("its host is missing or invalid"));
        }
        if is_user_invalid {
            return Err(refuse("its user name is invalid"));
        }
        if rest.starts_with("//") && user.is_some_and(|user| user.contains(':')) {
            return Err(refuse("it must not contain a password"));
        }
        if path.is_empty() {
            return Err(refuse("it names no directory"));
        }
        if path == "~" || path.starts_with("~/") {
            return Err(refuse(
                "SFTP servers do not expand “~”; a relative path starts at the login directory",
            ));
        }
        Ok(Self {
            server: SftpServer {
                user: user.map(str::to_owned),
                host: host.to_owned(),
                port,
            },
            path: normalize(path),
            text: whole.to_owned(),
        })
    }
}

/// Returns a location for a message, with `***` in place of everything that may be a password. This
/// is the text between the first colon of `USER:PASSWORD@HOST` and the last `@`.
fn without_password(text: &OsStr) -> String {
    let text = text.display().to_string();
    let start = match text.find("//") {
        Some(slashes) => slashes + 2,
        None if text.starts_with("sftp:") => "sftp:".len(),
        None => 0,
    };
    let end = text.rfind('@').filter(|&end| end > start);
    match end.and_then(|end| Some((start + text[start..end].find(':')?, end))) {
        Some((colon, end)) => format!("{}***{}", &text[..=colon], &text[end..]),
        None => text,
    }
}

/// Splits `HOST:PATH` into host and path. The host may be an address in brackets. `None` if no
/// colon follows the host.
fn split_host(text: &str) -> Option<(&str, &str)> {
    let colon = text.find(':')?;
    let host = text[..colon].rfind('@').map_or(0, |at| at + 1);
    let end = if text[host..].starts_with('[') {
        text.find("]:")? + 1
    } else {
        colon
    };
    Some((&text[..end], &text[end + 1..]))
}

/// Splits `HOST:PORT` into host and port. The host may be an address in brackets. The port is
/// `None` if the text has none.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// Removes trailing and repeated slashes.
fn normalize(path: &str) -> String {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    let joined = parts.join("/");
    if path.starts_with('/') {
        format!("/{joined}")
    } else {
        joined
    }
}

/// Returns the scheme of `scheme:rest`; `None` if the text before the colon is not a scheme.
pub(crate) fn scheme(text: &OsStr) -> Option<&str> {
    let bytes = text.as_encoded_bytes();
    let end = bytes.iter().position(|&byte| byte == b':')?;
    let scheme = str::from_utf8(&bytes[..end]).ok()?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    is_scheme.then_some(scheme)
}

/// Returns whether this is `USER@HOST:PATH`, the syntax of scp.
fn is_like_scp(text: &OsStr) -> bool {
    let text = text.to_string_lossy();
    let before = text.split_once(':').map(|(before, _)| before);
    before.is_some_and(|host| host.contains('@') && !host.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sftp(text: &str) -> Result<SftpLocation, Failure> {
        SftpLocation::parse(OsStr::new(text))
    }

    #[test]
    fn both_sftp_syntaxes_are_parsed_into_server_and_path() {
        for (text, user, host, port, path) in [
            ("sftp:host:/srv/b", None, "host", None, "/srv/b"),
            ("sftp:u@host:b", Some("u"), "host", None, "b"),
            ("sftp:host://srv//b/", None, "host", None, "/srv/b"),
            ("sftp:u@[::1]:/b:c", Some("u"), "::1", None, "/b:c"),
            ("sftp:d\\u@host:b", Some("d\\u"), "host", None, "b"),
            ("sftp:u@realm@host:b", Some("u@realm"), "host", None, "b"),
            ("sftp:a@b@[::1]:c", Some("a@b"), "::1", None, "c"),
            ("sftp:host:/x@[y]:z", None, "host", None, "/x@[y]:z"),
            ("sftp:host:.", None, "host", None, "."),
            ("sftp:host:/", None, "host", None, "/"),
            ("sftp://host/b/c", None, "host", None, "b/c"),
            ("sftp://u@host//srv/b", Some("u"), "host", None, "/srv/b"),
            ("sftp://u@host:22//b", Some("u"), "host", Some(22), "/b"),
            ("sftp://[::1]:2222/b", None, "::1", Some(2222), "b"),
            ("sftp://[fe80::1%eth0]/b", None, "fe80::1%eth0", None, "b"),
        ] {
            let found = sftp(text).unwrap();
            let server = SftpServer {
                user: user.map(str::to_owned),
                host: host.to_owned(),
                port,
            };
            assert_eq!(
                (&found.server, found.path.as_str()),
                (&server, path),
                "{text}"
            );
            assert_eq!(Location::Sftp(found).to_string(), text);
        }
    }

    #[test]
    fn the_password_in_a_refused_location_is_not_shown() {
        for (text, shown) in [
            ("sftp://u:s3cret@host/path", "sftp://u:***@host/path"),
            ("sftp://u:s3/cr@et@host/path", "sftp://u:***@host/path"),
            ("https://u:s3cret@host/path", "https://u:***@host/path"),
            ("rest:https://u:s3cret@host/", "rest:https://u:***@host/"),
            ("s3:key:s3cret@host", "s3:***@host"),
        ] {
            let failure = Location::parse(OsStr::new(text)).unwrap_err();
            let all = failure.to_text();
            assert!(all.contains(shown) && !all.contains("s3cr"), "{all}");
        }
        for text in ["sftp:u@host:path", "/a/b", "sftp://u@host:22/path"] {
            assert_eq!(without_password(OsStr::new(text)), text);
        }
    }

    #[test]
    fn invalid_or_dangerous_sftp_locations_are_refused() {
        for text in [
            "sftp:",
            "sftp:host",
            "sftp:host:",
            "sftp::path",
            "sftp:@host:path",
            "sftp:u@:path",
            "sftp:-oProxyCommand=x:path",
            "sftp:u@-oProxyCommand=x:path",
            "sftp:-u@host:path",
            "sftp:host:~/path",
            "sftp:ho st:path",
            "sftp://",
            "sftp://host",
            "sftp://host/",
            "sftp:///path",
            "sftp://-host/path",
            "sftp://u:password@host/path",
            "sftp://host:0/path",
            "sftp://host:65536/path",
            "sftp://host:x/path",
            "sftp://host/pa\nth",
        ] {
            assert_eq!(sftp(text).unwrap_err().code, Code::Usage, "{text}");
        }
    }
}
