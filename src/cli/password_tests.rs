use std::cell::RefCell;
use std::os::fd::AsRawFd;
use std::sync::Mutex;

use super::*;
use crate::base::{Progress, Silent};

#[derive(Default)]
struct Heard(Mutex<Vec<Notice>>);

impl Observer for Heard {
    fn progress(&self, _: Progress) {}
    fn notice(&self, notice: Notice) {
        self.0.lock().unwrap().push(notice);
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a prompt may fail")]
fn nobody(_: &str) -> io::Result<Option<Zeroizing<String>>> {
    Ok(None)
}

/// Types these answers, the last one first.
fn typist(answers: &[&str]) -> impl Fn(&str) -> io::Result<Option<Zeroizing<String>>> + use<> {
    let answers = RefCell::new(answers.iter().map(|&a| a.to_owned()).collect::<Vec<_>>());
    move |_| Ok(answers.borrow_mut().pop().map(Zeroizing::new))
}

fn existing(
    variables: &[(&str, &str)],
    options: &PasswordOptions,
    prompt: Prompt<'_>,
) -> Result<String, PasswordError> {
    let environment = Environment::with(variables);
    let passwords = Passwords {
        environment: &environment,
        observer: &Silent,
        prompt,
    };
    let password = passwords.existing(options, &"/r")?;
    Ok(String::from_utf8(password.to_vec()).unwrap())
}

fn file(directory: &tempfile::TempDir, name: &str, content: &[u8]) -> PathBuf {
    let path = directory.path().join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn command(text: &str) -> PasswordOptions {
    PasswordOptions {
        file: None,
        command: Some(text.into()),
    }
}

#[test]
fn the_first_way_that_is_given_counts() {
    let directory = tempfile::tempdir().unwrap();
    let option = file(&directory, "option", b"option file\n");
    let variable = file(&directory, "variable", b"variable file\n");
    let opened = File::open(file(&directory, "opened", b"opened file\n")).unwrap();
    let number = opened.as_raw_fd().to_string();
    let mut variables = vec![
        ("CUTTLEBONE_PASSWORD", "direct"),
        ("CUTTLEBONE_PASSWORD_FD", number.as_str()),
        ("CUTTLEBONE_PASSWORD_FILE", variable.to_str().unwrap()),
        ("CUTTLEBONE_PASSWORD_COMMAND", "echo variable command"),
    ];
    let typed = typist(&["typed"]);

    let options = PasswordOptions {
        file: Some(option),
        command: None,
    };
    assert_eq!(
        existing(&variables, &options, &typed).unwrap(),
        "option file"
    );
    let options = command("echo option command");
    assert_eq!(
        existing(&variables, &options, &typed).unwrap(),
        "option command"
    );
    let options = PasswordOptions::default();
    for expected in ["direct", "opened file", "variable file", "variable command"] {
        assert_eq!(existing(&variables, &options, &typed).unwrap(), expected);
        variables.remove(0);
    }
    assert_eq!(existing(&[], &options, &typed).unwrap(), "typed");
    assert!(matches!(
        existing(&[], &options, &nobody),
        Err(PasswordError::NoTerminal { new: false })
    ));
}

#[test]
fn one_final_line_end_is_dropped() {
    for (content, password) in [
        (&b"secret"[..], &b"secret"[..]),
        (b"secret\n", b"secret"),
        (b"secret\r\n", b"secret"),
        (b"secret\n\n", b"secret\n"),
        (b"secret\r", b"secret\r"),
        (b" \xff \n", b" \xff "),
    ] {
        assert_eq!(&**read(content, Origin::Stdin).unwrap(), password);
    }
    for empty in [&b""[..], b"\n", b"\r\n"] {
        assert!(matches!(
            read(empty, Origin::Stdin),
            Err(PasswordError::Empty(Origin::Stdin))
        ));
    }
    assert!(matches!(
        read(io::repeat(b'x'), Origin::Stdin),
        Err(PasswordError::TooLong(_))
    ));
}

#[test]
fn a_command_that_fails_tells_its_status_and_nothing_it_printed() {
    let error = existing(&[], &command("echo hunter2; exit 7"), &nobody).unwrap_err();
    let text = Failure::from(error).to_text();
    assert!(text.contains("exit status: 7"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    let empty = existing(&[], &command("true"), &nobody).unwrap_err();
    assert!(matches!(empty, PasswordError::Empty(Origin::Command)));
}

#[test]
fn a_child_gets_no_password() {
    let mut child = Command::new("true");
    without_secrets(&mut child);
    assert!(
        child
            .get_envs()
            .any(|(name, value)| name == PASSWORD && value.is_none())
    );
}

#[test]
fn a_file_that_others_can_read_is_worth_a_word() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "pw", b"secret");
    let heard = Heard::default();
    let environment = Environment::with(&[]);
    let passwords = Passwords {
        environment: &environment,
        observer: &heard,
        prompt: &nobody,
    };
    passwords.additional(Some(&path)).unwrap();
    assert!(heard.0.lock().unwrap().is_empty());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    passwords.additional(Some(&path)).unwrap();
    assert_eq!(heard.0.lock().unwrap().len(), 1);
}

#[test]
fn a_new_password_is_typed_twice() {
    let environment = Environment::with(&[]);
    let with = |prompt: Prompt<'_>| {
        let passwords = Passwords {
            environment: &environment,
            observer: &Silent,
            prompt,
        };
        passwords
            .initial(&PasswordOptions::default(), &"/r")
            .map(|password| password.to_vec())
    };
    assert_eq!(with(&typist(&["a", "a"])).unwrap(), b"a");
    assert!(matches!(
        with(&typist(&["a", "b"])),
        Err(PasswordError::Mismatch)
    ));
    assert!(matches!(
        with(&typist(&["", ""])),
        Err(PasswordError::Empty(Origin::Terminal))
    ));
}

#[test]
fn the_environment_does_not_give_the_new_password_of_a_key() {
    let environment = Environment::with(&[("CUTTLEBONE_PASSWORD", "old")]);
    let passwords = Passwords {
        environment: &environment,
        observer: &Silent,
        prompt: &typist(&["n", "n"]),
    };
    assert_eq!(&**passwords.additional(None).unwrap(), b"n");
}

#[test]
fn nonsense_is_named() {
    let with = |name, value| existing(&[(name, value)], &PasswordOptions::default(), &nobody);
    let error = with("CUTTLEBONE_PASSWORD_FD", "three").unwrap_err();
    assert!(matches!(error, PasswordError::NotADescriptor));
    let error = with("CUTTLEBONE_PASSWORD_FD", "987654").unwrap_err();
    assert!(matches!(
        error,
        PasswordError::Read {
            origin: Origin::Descriptor(987_654),
            ..
        }
    ));
    let error = with("CUTTLEBONE_PASSWORD_FILE", "/nowhere/at/all").unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
}
