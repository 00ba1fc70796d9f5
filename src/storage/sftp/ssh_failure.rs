//! Finds out why ssh could not connect.

use std::process::ExitStatus;
use std::time::Duration;

use super::error::SftpError;
use super::ssh::Ssh;
use crate::storage::error::StorageErrorKind;

/// Returns the reason why ssh ended before the server answered.
pub(super) async fn not_connected(ssh: &Ssh) -> SftpError {
    let status = ssh.end(Duration::from_secs(5)).await;
    classify(status, ssh.messages())
}

/// Interprets ssh's exit status and messages. ssh has the same status 255 for all of its own
/// failures, so only its messages distinguish them.
fn classify(status: Option<ExitStatus>, messages: String) -> SftpError {
    use StorageErrorKind as Kind;
    let code = status.and_then(|status| status.code());
    let has = |text: &str| messages.contains(text);
    if let Some(126 | 127) = code {
        return SftpError::known(Kind::NoProgram, messages);
    }
    if has("HOST IDENTIFICATION HAS CHANGED") || (has("ost key for ") && has(" has changed")) {
        return SftpError::known(Kind::HostKeyChanged, messages);
    }
    if has("Host key verification failed")
        || has("Permission denied (")
        || has("Too many authentication failures")
    {
        return SftpError::known(Kind::LoginRefused, messages);
    }
    if has("subsystem request failed") {
        let text = format!("{messages}: the server offers no SFTP");
        return SftpError::known(Kind::LoginRefused, text);
    }
    match status {
        // This is not ssh's own status. The program does not accept the arguments, or is not ssh.
        Some(status) if code.is_some_and(|code| code != 255) => {
            let text = if messages.is_empty() {
                "it ended without a message"
            } else {
                &messages
            };
            SftpError::known(Kind::NoProgram, format!("{text} ({status})"))
        }
        _ if has("Broken pipe") => SftpError::known(Kind::ClosedAfterLogin, messages),
        _ if messages.is_empty() => SftpError::Lost("ssh ended without a message".to_owned()),
        _ => SftpError::Lost(messages),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_failed_connection_is_classified_by_the_messages_of_ssh() {
        use StorageErrorKind as Kind;
        for (code, messages, kind) in [
            (127, "sh: 1: exec: ssh: not found", Kind::NoProgram),
            (1, "", Kind::NoProgram),
            (
                255,
                "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!; …; \
                 Host key verification failed.",
                Kind::HostKeyChanged,
            ),
            (
                255,
                "Host key for vault has changed and you have requested strict checking.",
                Kind::HostKeyChanged,
            ),
            (
                255,
                "No ED25519 host key is known for vault; Host key verification failed.",
                Kind::LoginRefused,
            ),
            (
                255,
                "me@vault: Permission denied (publickey).",
                Kind::LoginRefused,
            ),
            (
                255,
                "subsystem request failed on channel 0",
                Kind::LoginRefused,
            ),
            (
                255,
                "client_loop: send disconnect: Broken pipe",
                Kind::ClosedAfterLogin,
            ),
            (
                255,
                "ssh: connect to host vault port 22: Connection refused",
                Kind::Unavailable,
            ),
            (255, "", Kind::Unavailable),
        ] {
            let status = ExitStatus::from_raw(code << 8);
            let error = classify(Some(status), messages.to_owned());
            assert_eq!(error.kind(), kind, "{code} {messages}");
        }
    }
}
