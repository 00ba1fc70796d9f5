//! Keys of each role: which commands work, and how the others are refused.

use std::fs;

use serde_json::Value;

use super::failures::assert_error;
use crate::support::noise;
use crate::support::program::World;

/// A repository with a backup of the volume `web-1`, and a key of each role.
struct Keys {
    world: World,
    disk: String,
    write: String,
    verify: String,
}

impl Keys {
    fn new() -> Self {
        let world = World::new();
        let disk = world.write("disk.img", &noise(1, 300 << 10));
        world.backup(&[&disk, "--volume", "web-1"]);
        let volumes = ["--volumes", "web-*,db", "--volumes", "x?"];
        let write = world.add_key("of the writer", "write", &volumes);
        let verify = world.add_key("of the auditor", "verify", &["--label", "auditor"]);
        Self {
            world,
            disk,
            write,
            verify,
        }
    }

    /// Returns the arguments, with an option that selects the key of this role. The role “full”
    /// needs no option.
    fn with<'a>(&'a self, role: &str, args: &[&'a str]) -> Vec<&'a str> {
        let file = match role {
            "write" => &self.write,
            "verify" => &self.verify,
            _ => return args.to_vec(),
        };
        [args, &["--password-file", file]].concat()
    }

    #[track_caller]
    fn refused(&self, role: &str, args: &[&str]) -> String {
        self.world.fails(&self.with(role, args), 22)
    }
}

#[test]
fn the_list_of_keys_shows_roles_projects_and_volumes() {
    let keys = Keys::new();
    let listed = keys.world.json(&["key", "list"]);
    let of_role = |role: &str| -> &Value {
        let mut same = listed.iter().filter(|key| key["role"] == role);
        let found = same.next().unwrap();
        assert!(same.next().is_none());
        found
    };
    let write = of_role("write");
    assert_eq!(write["volumes"], serde_json::json!(["web-*", "db", "x?"]));
    assert_eq!(write["scope"], "project");
    assert_eq!(write["project"], "default");
    assert_eq!(write["foreign"], false);
    let verify = of_role("verify");
    assert_eq!(verify["label"], "auditor");
    assert_eq!(verify["volumes"], serde_json::json!([]));
    let full = of_role("full");
    assert_eq!(
        (&full["scope"], &full["project"]),
        (&Value::from("repository"), &Value::Null)
    );

    let text = keys.world.ok(&keys.with("verify", &["key", "list"]));
    assert!(
        text.contains("write") && text.contains("web-*, db, x?"),
        "{text}"
    );
    assert!(
        !text.contains("repository"),
        "a verify key sees only the keys of its project: {text}"
    );
    let tested = keys.world.ok(&keys.with("write", &["key", "test"]));
    assert!(
        tested.contains(&write["key_id"].as_str().unwrap()[..8]),
        "{tested}"
    );
    let slot = keys.world.at("slot");
    keys.world
        .ok(&keys.with("verify", &["key", "export", &slot]));
}

#[test]
fn commands_that_read_no_content_work_with_every_key() {
    let keys = Keys::new();
    for role in ["full", "write", "verify"] {
        for args in [
            &["list"][..],
            &["show", "web-1"],
            &["list", "--latest", "1", "--since", "2020-01-01"],
            &["stats"],
            &["stats", "web-1"],
            &["check"],
            &["cache", "show"],
        ] {
            keys.world.ok(&keys.with(role, args));
        }
    }
}

#[test]
fn commands_beyond_the_role_of_the_key_are_refused_before_they_do_anything() {
    let keys = Keys::new();
    let before = files(&keys.world);
    let target = keys.world.at("target");
    let new = keys.world.write("new", b"another password");
    let refusals: [(&[&str], &str); 16] = [
        (&["label", "web-1", "a=b"], "change labels"),
        (&["restore", "web-1", &target], "restore"),
        (
            &["restore", "web-1", &target, "--format", "rbd-diff"],
            "export a diff",
        ),
        (&["diff", "export", "web-1", "-o", &target], "export a diff"),
        (&["compare", "web-1", "web-1"], "compare"),
        (&["forget", "--keep-last", "1"], "forget"),
        (&["forget", "--keep-last", "1", "--dry-run"], "forget"),
        (&["forget", "--keep-last", "1", "--prune"], "forget"),
        (&["prune"], "prune"),
        (&["head"], "run “head”, which writes into the log"),
        (&["prune", "--dry-run"], "prune"),
        (&["key", "add", "--new-password-file", &new], "add a key"),
        (
            &[
                "key",
                "add",
                "--role",
                "verify",
                "--new-password-file",
                &new,
            ],
            "add a key",
        ),
        (&["key", "remove", "00"], "remove a key"),
        (&["key", "revoke", "00"], "revoke a key"),
        (
            &["key", "passwd", "--new-password-file", &new],
            "change its password",
        ),
    ];
    for role in ["write", "verify"] {
        for (args, action) in &refusals {
            let refused = keys.refused(role, args);
            assert!(refused.contains(action), "{args:?}: {refused}");
            assert!(refused.contains(&format!("role “{role}”")), "{refused}");
            assert!(refused.contains("with the role “full”"), "{refused}");
        }
    }
    let refused = keys.refused("verify", &["backup", &keys.disk, "--volume", "web-1"]);
    assert!(refused.contains("may not back up"), "{refused}");
    assert!(refused.contains("“write” or “full”"), "{refused}");
    keys.refused(
        "verify",
        &["backup", &keys.disk, "--volume", "web-1", "--dry-run"],
    );
    for args in [
        &["check", "--read-data"][..],
        &["check", "--read-data-subset", "10%"],
    ] {
        let refused = keys.refused("write", args);
        assert!(refused.contains("“verify” or “full”"), "{refused}");
    }
    assert!(!fs::exists(&target).unwrap());
    assert_eq!(files(&keys.world), before, "nothing was stored or deleted");
}

fn files(world: &World) -> Vec<std::path::PathBuf> {
    crate::support::program::files(&world.repository())
}

#[test]
fn a_refusal_is_an_exit_error_with_code_22_in_json() {
    let keys = Keys::new();
    let args = keys.with(
        "write",
        &["--json", "restore", "web-1", "/nonexistent/target"],
    );
    let ran = keys.world.run(&args);
    assert_eq!(ran.code, Some(22));
    let error: Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
    assert_eq!(error["message_type"], "exit_error");
    assert_eq!(error["code"], 22);
    assert!(error["hint"].as_str().unwrap().contains("full"), "{error}");
}

#[test]
fn a_write_key_may_not_back_up_a_volume_outside_its_patterns() {
    let keys = Keys::new();
    for volume in ["mail", "web", "x12"] {
        let refused = keys.refused("write", &["backup", &keys.disk, "--volume", volume]);
        assert!(refused.contains(volume), "{refused}");
        assert!(refused.contains("web-*, db, x?"), "{refused}");
    }
}

#[test]
fn volumes_are_given_to_write_keys_only() {
    let world = World::new();
    for args in [
        &["--volumes", "web-*"][..],
        &["--role", "full", "--volumes", "web-*"],
        &["--role", "verify", "--volumes", "web-*"],
        &["--role", "write", "--volumes", ""],
        &["--role", "read"],
    ] {
        world.fails(&[&["key", "add"], args].concat(), 2);
    }
}

#[test]
fn a_write_or_verify_key_that_a_full_key_has_removed_opens_nothing() {
    let keys = Keys::new();
    let listed = keys.world.json(&["key", "list"]);
    let write = listed.iter().find(|key| key["role"] == "write").unwrap();
    keys.world
        .ok(&["key", "remove", &write["key_id"].as_str().unwrap()[..12]]);
    keys.world.fails(&keys.with("write", &["list"]), 12);
    keys.world.ok(&keys.with("verify", &["list"]));
}

#[test]
fn check_reports_a_key_slot_that_no_full_key_added() {
    let keys = Keys::new();
    let project = keys.world.project();
    let slots = crate::support::program::files(&project.join("keys"));
    let mut forged = fs::read(&slots[0]).unwrap();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let name = cuttlebone::crypto::object_hash(&[&forged]).to_string();
    fs::write(project.join("keys").join(&name), &forged).unwrap();
    fs::write(project.join("keys").join(name.clone() + ".copy"), &forged).unwrap();
    let found = keys.world.fails(&["check"], 21);
    assert!(found.contains("are foreign"), "{found}");
    let listed = keys.world.json(&["key", "list"]);
    let foreign: Vec<_> = listed.iter().filter(|key| key["foreign"] == true).collect();
    assert_eq!(foreign.len(), 1);
    assert_eq!(foreign[0]["key_id"], name.as_str());
    keys.world.ok(&["key", "remove", &name]);
    keys.world.ok(&["check"]);
}

#[test]
fn a_full_key_cannot_be_revoked_and_the_error_gives_the_reason() {
    let keys = Keys::new();
    let listed = keys.world.json(&keys.with("full", &["key", "list"]));
    let mut full = listed.iter().filter(|key| key["role"] == "full").peekable();
    assert!(full.peek().is_some(), "{listed:?}");
    for key in full {
        let id = key["key_id"].as_str().unwrap();
        for id in [id, &id[..8]] {
            let error = keys
                .world
                .fails(&keys.with("full", &["key", "revoke", id]), 1);
            assert_error(&error, &["a full key cannot be revoked", "key remove"]);
        }
    }
    let error = keys
        .world
        .fails(&keys.with("full", &["key", "revoke", "abababab"]), 1);
    assert_error(&error, &["there is no key abababab"]);
}

#[test]
fn a_revoked_key_opens_nothing_and_its_copied_slot_is_foreign() {
    let keys = Keys::new();
    let slot = keys.world.at("slot");
    keys.world
        .ok(&keys.with("write", &["key", "export", &slot]));
    let listed = keys.world.json(&["key", "list"]);
    let id_of = |role: &str| {
        let key = listed.iter().find(|key| key["role"] == role).unwrap();
        key["key_id"].as_str().unwrap().to_owned()
    };
    let revoked = keys
        .world
        .json_one(&["key", "revoke", &id_of("write")[..12]], "key_change");
    assert_eq!(revoked["action"], "revoked");
    assert_eq!(revoked["key_id"], id_of("write").as_str());
    keys.world.fails(&keys.with("write", &["list"]), 12);
    keys.world.fails(&["key", "revoke", "0000"], 1);
    keys.world.fails(
        &[
            "key",
            "revoke",
            &id_of("verify"),
            "--accept-all",
            "--accept-none",
        ],
        2,
    );

    let copy = keys.world.project().join("keys").join(id_of("write"));
    fs::copy(&slot, &copy).unwrap();
    keys.world.ok(&keys.with("write", &["list"]));
    let refused = keys.refused("write", &["backup", &keys.disk, "--volume", "web-1"]);
    assert!(refused.contains("revoked"), "{refused}");
    let listed = keys.world.json(&["key", "list"]);
    let foreign = listed.iter().find(|key| key["foreign"] == true).unwrap();
    assert_eq!(foreign["role"], "write");
    keys.world.fails(&["check"], 21);
}
