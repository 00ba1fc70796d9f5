//! Tests where passwords come from, and which are refused.

use std::cell::RefCell;
use std::os::fd::AsRawFd;
use std::sync::Mutex;

use super::*;
use crate::app::prompt::TerminalLoan;
use crate::base::{Progress, Silent};

#[derive(Default)]
struct Notices(Mutex<Vec<Notice>>);

impl Observer for Notices {
    fn progress(&self, _: Progress) {}
    fn notice(&self, notice: Notice) {
        self.0.lock().unwrap().push(notice);
    }
}

/// A user who types these answers, the last one first. After that, there is no user to ask.
struct Typist(RefCell<Vec<String>>);

impl Typist {
    fn new(answers: &[&str]) -> Self {
        Self(RefCell::new(
            answers.iter().map(|&a| a.to_owned()).collect(),
        ))
    }
}

impl Prompt for Typist {
    fn password(&self, _: &str) -> io::Result<Option<Zeroizing<String>>> {
        Ok(self.0.borrow_mut().pop().map(Zeroizing::new))
    }

    fn lend_terminal(&self) -> Box<dyn TerminalLoan + '_> {
        unreachable!("no test lends the terminal")
    }
}

fn no_user() -> Typist {
    Typist::new(&[])
}

fn existing(
    variables: &[(&str, &str)],
    options: &PasswordOptions,
    prompt: &dyn Prompt,
) -> Result<String, PasswordError> {
    let environment = Environment::with(variables);
    let passwords = Passwords {
        environment: &environment,
        observer: &Silent,
        prompt,
        cancel: &Cancel::default(),
    };
    let password = passwords.existing(options, &"/r")?.bytes;
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
        command: Some(text.into()),
        ..PasswordOptions::default()
    }
}

#[test]
fn the_first_source_given_is_used() {
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
    let typed = Typist::new(&["typed"]);

    let options = PasswordOptions {
        file: Some(option),
        ..PasswordOptions::default()
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
        existing(&[], &options, &no_user()),
        Err(PasswordError::NoTerminal { new: false, .. })
    ));
}

#[test]
fn one_final_line_break_is_removed() {
    for (content, password) in [
        (&b"secret"[..], &b"secret"[..]),
        (b"secret\n", b"secret"),
        (b"secret\r\n", b"secret"),
        (b"secret\n\n", b"secret\n"),
        (b"secret\r", b"secret\r"),
        (b" \xff \n", b" \xff "),
    ] {
        assert_eq!(&**read(content, Origin::Stdin).unwrap().bytes, password);
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
fn a_byte_order_mark_at_the_start_is_refused_with_a_hint() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "pw", "\u{feff}secret\n".as_bytes());
    let name = path.to_str().unwrap();
    let error = existing(
        &[("CUTTLEBONE_PASSWORD_FILE", name)],
        &PasswordOptions::default(),
        &no_user(),
    )
    .unwrap_err();
    let text = Failure::from(error).to_text();
    assert!(
        text.contains(name) && text.contains("without BOM"),
        "{text}"
    );
    let within = "se\u{feff}cret".as_bytes();
    assert_eq!(&**read(within, Origin::Stdin).unwrap().bytes, within);
}

#[test]
fn new_keys_are_made_with_the_composed_form_of_text() {
    let (decomposed, composed_text) = ("gru\u{308}n", "gr\u{fc}n");
    let form = |password: &[u8]| composed_form(password).map(|form| form.to_vec());
    assert_eq!(
        form(decomposed.as_bytes()).unwrap(),
        composed_text.as_bytes()
    );
    for other in [
        composed_text.as_bytes(),
        b"plain",
        b"not text: u\xcc\x88 \xff",
    ] {
        assert_eq!(form(other), None);
    }
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "pw", decomposed.as_bytes());
    let environment = Environment::with(&[("CUTTLEBONE_PASSWORD", decomposed)]);
    let passwords = Passwords {
        environment: &environment,
        observer: &Silent,
        prompt: &Typist::new(&[decomposed, decomposed]),
        cancel: &Cancel::default(),
    };
    let options = PasswordOptions::default();
    let given = passwords.existing(&options, &"/r").unwrap();
    assert_eq!(&**given.bytes, decomposed.as_bytes(), "not composed");
    for new in [
        passwords.initial(&options, &"/r").unwrap(),
        passwords.additional(Some(&path)).unwrap(),
        passwords.additional(None).unwrap(),
    ] {
        assert_eq!(&**new, composed_text.as_bytes());
    }
}

#[test]
fn a_failing_password_command_reports_its_status_but_not_its_output() {
    let error = existing(&[], &command("echo hunter2; exit 7"), &no_user()).unwrap_err();
    let text = Failure::from(error).to_text();
    assert!(text.contains("exit status: 7"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    let empty = existing(&[], &command("true"), &no_user()).unwrap_err();
    assert!(matches!(empty, PasswordError::Empty(Origin::Command)));
}

#[test]
fn a_password_file_that_others_can_read_causes_a_notice() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "pw", b"secret");
    let notices = Notices::default();
    let environment = Environment::with(&[]);
    let passwords = Passwords {
        environment: &environment,
        observer: &notices,
        prompt: &no_user(),
        cancel: &Cancel::default(),
    };
    passwords.additional(Some(&path)).unwrap();
    assert!(notices.0.lock().unwrap().is_empty());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    passwords.additional(Some(&path)).unwrap();
    assert_eq!(notices.0.lock().unwrap().len(), 1);
}

#[test]
fn a_new_password_is_typed_twice() {
    let environment = Environment::with(&[]);
    let with = |prompt: &dyn Prompt| {
        let passwords = Passwords {
            environment: &environment,
            observer: &Silent,
            prompt,
            cancel: &Cancel::default(),
        };
        passwords
            .initial(&PasswordOptions::default(), &"/r")
            .map(|password| password.to_vec())
    };
    assert_eq!(with(&Typist::new(&["a", "a"])).unwrap(), b"a");
    assert!(matches!(
        with(&Typist::new(&["a", "b"])),
        Err(PasswordError::Mismatch)
    ));
    assert!(matches!(
        with(&Typist::new(&["", ""])),
        Err(PasswordError::Empty(Origin::Terminal))
    ));
}

#[test]
fn the_environment_does_not_give_the_new_password_of_a_key() {
    let environment = Environment::with(&[("CUTTLEBONE_PASSWORD", "old")]);
    let passwords = Passwords {
        environment: &environment,
        observer: &Silent,
        prompt: &Typist::new(&["n", "n"]),
        cancel: &Cancel::default(),
    };
    assert_eq!(&**passwords.additional(None).unwrap(), b"n");
}

#[test]
fn unusable_password_variables_are_named_in_the_error() {
    let with = |name, value| existing(&[(name, value)], &PasswordOptions::default(), &no_user());
    let error = with("CUTTLEBONE_PASSWORD_FD", "three").unwrap_err();
    assert!(matches!(
        error,
        PasswordError::NotADescriptor("CUTTLEBONE_PASSWORD")
    ));
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
