//! Reports of checks, and their signatures.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::noise;
use crate::support::program::{World, damage, files};
use crate::support::skip;

fn one_backup() -> World {
    let world = World::new();
    let disk = world.write("disk", &noise(1, 1 << 20));
    world.backup(&[&disk, "--volume", "<b>web</b>"]);
    world
}

fn public_key(world: &World, args: &[&str]) -> String {
    let key = world.ok(&[&["audit", "public-key"], args].concat());
    key.trim().to_owned()
}

#[test]
fn a_report_says_what_was_checked_and_found() {
    let world = one_backup();
    world.ok(&["head"]);
    world.ok(&["drill"]);
    let path = world.at("good.json");
    world.ok(&["check", "--read-data", "--report", &path]);
    let report: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(report["exit_code"], 0, "{report}");
    assert_eq!(
        (&report["scope"], &report["role"]),
        (&"all".into(), &"full".into())
    );
    assert_eq!(report["whole"][0]["volume"], "<b>web</b>");
    assert_eq!(report["all_data_read"], true);
    let part = world.at("part.json");
    world.ok(&["check", "--report", &part]);
    let part: Value = serde_json::from_slice(&fs::read(&part).unwrap()).unwrap();
    assert_eq!(part["all_data_read"], false);
    assert_eq!(report["audits"]["coverage"][0]["bytes_never"], 0);
    assert_eq!(report["audits"]["drills"][0]["success"], true);
    assert_eq!(report["check"]["seed"].as_str().unwrap().len(), 64);
    let statement = report["statement"].as_str().unwrap();
    assert!(statement.starts_with("CUTTLEBONE:HEAD:1:"), "{statement}");
    world.fails(&["check", "--report", &path], 1);

    let pack = files(&world.project().join("packs")).remove(0);
    damage(&pack);
    let page = world.at("bad.html");
    world.fails(&["check", "--read-data", "--report", &page], 21);
    let html = fs::read_to_string(&page).unwrap();
    let name = pack.file_name().unwrap().to_str().unwrap();
    assert!(
        html.contains(name) && html.contains("&lt;b&gt;web&lt;/b&gt;"),
        "{html}"
    );
    assert!(!html.contains("<b>web"), "names are escaped");
    assert!(html.contains("prefers-color-scheme") && html.contains("@media print"));
    for outside in ["http:", "https:", "<script", "<link", "url("] {
        assert!(!html.contains(outside), "the page needs {outside}");
    }
    assert!(html.contains("Newest whole backup"), "{html}");
    let whole = html.split("Backups without damage").nth(1).unwrap();
    let whole = whole.trim_start_matches("</h2>").trim_start();
    assert!(whole.starts_with("<p>None.</p>"), "{whole}");
}

#[test]
fn the_signature_of_a_report_holds_until_it_is_changed() {
    let world = one_backup();
    let (path, key) = (world.at("audit.html"), public_key(&world, &[]));
    world.ok(&["check", "--report", &path]);
    let verify = ["audit", "verify-report", &path, "--public-key", &key];
    let text = world.ok(&verify);
    assert!(
        text.contains("is genuine") && text.contains("role full"),
        "{text}"
    );

    let verifier = world.add_key("of the verifier", "verify", &[]);
    let with = ["--password-file", &verifier];
    let other = public_key(&world, &with);
    assert_ne!(
        other, key,
        "each key that is not full signs with a key of its own"
    );
    let second = world.at("second.json");
    world.ok(&[&["check", "--report", &second][..], &with].concat());
    world.ok(&["audit", "verify-report", &second, "--public-key", &other]);
    world.fails(
        &["audit", "verify-report", &second, "--public-key", &key],
        21,
    );

    let page = fs::read(&path).unwrap();
    let mut changed = page.clone();
    changed[100] ^= 1;
    fs::write(&path, changed).unwrap();
    assert!(world.fails(&verify, 21).contains("changed"));
    fs::write(&path, page).unwrap();
    world.ok(&verify);
    fs::remove_file(format!("{path}.minisig")).unwrap();
    world.fails(&verify, 1);
}

#[test]
fn minisign_accepts_a_report_and_refuses_a_changed_one() {
    if Command::new("minisign").arg("-v").output().is_err() {
        return skip("minisign is not installed");
    }
    let world = one_backup();
    let (path, key) = (world.at("audit.json"), public_key(&world, &[]));
    world.ok(&["check", "--report", &path]);
    let verify = || {
        let mut command = Command::new("minisign");
        command.args(["-V", "-H", "-P", &key, "-m", &path]);
        command.output().unwrap()
    };
    let good = verify();
    assert!(good.status.success(), "{good:?}");
    let comment = String::from_utf8(good.stdout).unwrap();
    assert!(comment.contains("role full"), "{comment}");
    fs::write(&path, b"{}").unwrap();
    assert!(!verify().status.success());
}

/// Runs the browser without a window. Root needs the option `--no-sandbox`.
fn browser(args: &[&str]) {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new("chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu"]);
    command.arg(format!("--user-data-dir={}", home.path().display()));
    let ran = command
        .args(args)
        .env("HOME", home.path())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
}

#[test]
fn a_browser_shows_a_report_with_light_and_dark_colors_and_prints_it() {
    if Command::new("chromium").arg("--version").output().is_err() {
        return skip("chromium is not installed");
    }
    let world = one_backup();
    let page = world.at("audit.html");
    world.ok(&["check", "--read-data", "--report", &page]);
    let address = format!("file://{page}");
    let shown = ["0", "1"].map(|scheme| {
        let picture = world.at(&format!("{scheme}.png"));
        browser(&[
            &format!("--screenshot={picture}"),
            "--window-size=800,1200",
            &format!("--blink-settings=preferredColorScheme={scheme}"),
            &address,
        ]);
        fs::read(picture).unwrap()
    });
    assert!(shown.iter().all(|picture| picture.starts_with(b"\x89PNG")));
    assert_ne!(shown[0], shown[1], "dark and light colors differ");
    let paper = world.at("audit.pdf");
    browser(&[&format!("--print-to-pdf={paper}"), &address]);
    assert!(fs::read(paper).unwrap().starts_with(b"%PDF"));
}
