//! Checks of the names that users give.

use crate::app::failure::Failure;

const NAME_LEN_MAX: usize = 255;

/// Fails unless the name has 1 to 255 bytes and no control characters. `what` says in the message
/// which name it is, for example “volume”.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), Failure> {
    if name.is_empty() || name.len() > NAME_LEN_MAX || name.contains(char::is_control) {
        return Err(Failure::usage(format!("invalid {what} name {name:?}"))
            .hint("a name has 1 to 255 bytes and no control characters"));
    }
    Ok(())
}

/// Checks the name of a volume to back up to. It must not contain `@` or `~`, because users select
/// backups by VOLUME@SNAPSHOT and VOLUME~N.
pub(crate) fn volume_name(name: String) -> Result<String, Failure> {
    check_name("volume", &name)?;
    if name.contains(['@', '~']) {
        return Err(
            Failure::usage(format!("the volume name “{name}” contains @ or ~"))
                .hint("these select snapshots and older backups; give another with --volume NAME"),
        );
    }
    Ok(name)
}

/// Fails if the text that selects a backup is empty. It should be the beginning of an id, VOLUME,
/// VOLUME@SNAPSHOT or VOLUME~N.
pub(crate) fn backup_selector(text: String) -> Result<String, Failure> {
    if text.is_empty() {
        return Err(Failure::usage("the backup to use is an empty string")
            .hint("run “cuttlebone list” to see the backups"));
    }
    Ok(text)
}
