//! The directory for the state of this program, and the names of the files in it.

use std::path::PathBuf;

use super::environment::Environment;

/// Maximum length of a file name, in bytes. File systems permit 255.
const NAME_MAX: usize = 200;

/// Returns the directory for the state of this program, according to the XDG base directory
/// specification. `None` if neither `XDG_STATE_HOME` nor `HOME` names one.
pub(super) fn state_dir(environment: &Environment) -> Option<PathBuf> {
    let xdg = environment.get("XDG_STATE_HOME").map(PathBuf::from);
    let home = || environment.get("HOME").map(PathBuf::from);
    xdg.filter(|path| path.is_absolute())
        .or_else(|| Some(home()?.join(".local/state")))
        .map(|state| state.join("cuttlebone"))
}

/// Returns a file name for a path or location. Escapes all bytes except ASCII letters and digits,
/// `-`, `_` and `.`. If the name is too long, keeps only its end, which differs more often than the
/// beginning. So two long paths may have the same name.
pub(super) fn file_name(bytes: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let escaped = bytes.iter().map(|byte| match byte {
        byte if plain(byte) => char::from(*byte).to_string(),
        byte => format!("%{byte:02x}"),
    });
    let name: String = escaped.collect();
    let from = name.len().saturating_sub(NAME_MAX);
    name[from..].to_owned()
}
