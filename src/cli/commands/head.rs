//! The command `head`.

use std::io::{self, IsTerminal};

use jiff::Timestamp;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

use crate::app::{
    Attempt, Code, Failure, HeadStatement, Message, RepositorySettings, host_name, open_project,
};
use crate::cli::console::Console;
use crate::ops;

pub(super) fn head(
    console: &Console,
    settings: &RepositorySettings,
    with_qr: bool,
) -> Result<(), Failure> {
    let (_, project) = open_project(&console.session, settings, Attempt::Head)?;
    let context = console.session.context(Some(&settings.cache_dir));
    let head = ops::head(&project, Some(&host_name()), &context)?;
    console.meter.finish();
    let statement = head.statement();
    // A statement is in upper case, since the QR code of such text is smaller.
    let coded = statement.to_string();
    let on_screen = io::stdout().is_terminal();
    let qr = if with_qr || on_screen {
        Some(qr_code(&coded, on_screen)?)
    } else {
        None
    };
    console.output.show(&Message::Head(HeadStatement {
        project: head.name.clone(),
        project_id: head.project.to_string(),
        number: head.number,
        entry: head.entry.to_string(),
        signing_key: head.signer.to_string(),
        fingerprint: hex::encode(statement.fingerprint()),
        time: i64::try_from(head.time)
            .ok()
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .unwrap_or_default(),
        checksum: statement.checksum(),
        written: head.written,
        objects_added: head.added,
        objects: head.objects,
        qr_content: coded,
        qr,
    }))
}

/// Draws a QR code as text. On paper, printed characters are the dark modules of the code. On a
/// screen, which is assumed to be dark, characters are the light modules.
fn qr_code(content: &str, on_screen: bool) -> Result<String, Failure> {
    let code = QrCode::with_error_correction_level(content, EcLevel::M).map_err(|error| {
        Failure::new(Code::Failed, "could not draw the QR code").caused_by(Some(&error))
    })?;
    let (dark, light) = if on_screen {
        (Dense1x2::Light, Dense1x2::Dark)
    } else {
        (Dense1x2::Dark, Dense1x2::Light)
    };
    Ok(code
        .render::<Dense1x2>()
        .dark_color(dark)
        .light_color(light)
        .build())
}
