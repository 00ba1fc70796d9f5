use std::sync::Arc;

use super::*;
use crate::cli::message::{CheckSummary, KeyChange};

/// What was written.
#[derive(Clone, Default)]
pub(crate) struct Captured {
    stdout: Sink,
    stderr: Sink,
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Captured {
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.stdout.0.lock().unwrap().clone()).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8(self.stderr.0.lock().unwrap().clone()).unwrap()
    }
}

impl Output {
    /// An output for tests, and what it wrote.
    pub(crate) fn captured(json: bool) -> (Self, Captured) {
        captured(Style {
            json,
            ..Style::default()
        })
    }
}

fn captured(style: Style) -> (Output, Captured) {
    let captured = Captured::default();
    let (out, err) = (
        Box::new(captured.stdout.clone()),
        Box::new(captured.stderr.clone()),
    );
    (Output::with(style, out, err, TimeZone::UTC, None), captured)
}

struct Broken(io::ErrorKind);

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn check(errors: u64) -> Message {
    Message::Check(CheckSummary {
        errors,
        packs_damaged: errors,
        backups_affected: Vec::new(),
        backups: 1,
        packs: 2,
        bytes_read: 0,
        duration: 0.5,
    })
}

fn change() -> Message {
    Message::KeyChange(KeyChange {
        action: "added",
        key_id: "3f9a01bc55".to_owned(),
    })
}

#[test]
fn message_type_comes_first() {
    let (output, captured) = Output::captured(true);
    output.show(&check(0)).unwrap();
    output
        .extents(&[Extent {
            offset: 0,
            length: 65536,
        }])
        .unwrap();
    let mut lines = captured.stdout();
    let extent = lines.split_off(lines.find('\n').unwrap() + 1);
    assert!(lines.starts_with("{\"message_type\":\"check\",\"errors\":0,\"packs_damaged\":0,"));
    assert_eq!(
        extent,
        "{\"message_type\":\"extent\",\"offset\":0,\"length\":65536}\n"
    );
}

#[test]
fn quiet_people_hear_of_damage_only() {
    let (output, captured) = captured(Style {
        amount: Amount::Little,
        ..Style::default()
    });
    output.show(&check(0)).unwrap();
    output.show(&change()).unwrap();
    assert_eq!(captured.stdout(), "");
    output.show(&check(1)).unwrap();
    assert!(
        captured.stdout().starts_with("1 error, 1 pack damaged"),
        "{}",
        captured.stdout()
    );
}

#[test]
fn text_makes_way_for_data() {
    let (output, captured) = captured(Style {
        data_on_stdout: true,
        ..Style::default()
    });
    output.show(&change()).unwrap();
    assert_eq!(captured.stdout(), "");
    assert_eq!(captured.stderr(), "added the key 3f9a01bc\n");
}

#[test]
fn details_are_for_those_who_ask() {
    let (output, captured) = captured(Style {
        amount: Amount::More,
        ..Style::default()
    });
    let facts = [
        ("One", Some("1".to_owned())),
        ("Three", None),
        ("Two", Some("2".to_owned())),
    ];
    output.detail(&facts).unwrap();
    assert_eq!(captured.stdout(), "One  1\nTwo  2\n");
}

#[test]
fn a_closed_pipe_is_no_failure_but_a_full_disk_is() {
    let with = |kind| {
        let (out, err) = (Box::new(Broken(kind)), Box::new(io::sink()));
        Output::with(Style::default(), out, err, TimeZone::UTC, None).show(&change())
    };
    assert!(with(io::ErrorKind::BrokenPipe).is_ok());
    assert!(with(io::ErrorKind::StorageFull).is_err());
}
