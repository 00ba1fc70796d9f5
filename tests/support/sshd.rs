//! An OpenSSH server for a test: on a port of the loopback interface, with its own keys, for this
//! user.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cuttlebone::base::Cancel;
use cuttlebone::storage::{SftpOptions, SftpServer};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The time in which a server must start, even on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(1);

/// A running server, stopped when dropped, and a directory for stores.
pub(crate) struct Sshd {
    place: TempDir,
    program: PathBuf,
    port: u16,
    child: Child,
}

impl Sshd {
    /// Starts a server. If OpenSSH is missing, skips the test and returns `None`.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with("internal-sftp")
    }

    /// Starts a server like [`start`](Self::start), with another SFTP subsystem.
    pub(crate) fn start_with(subsystem: &str) -> Option<Self> {
        let Some(program) = find() else {
            super::skip("there is no OpenSSH server");
            return None;
        };
        if rustix::process::geteuid().is_root() {
            // sshd needs this directory for connections that have not logged in yet. The system's
            // service would make it.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let place = TempDir::new().unwrap();
        for key in ["host", "user"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
            assert!(
                keygen
                    .arg(place.path().join(key))
                    .status()
                    .unwrap()
                    .success()
            );
        }
        fs::create_dir(place.path().join("store")).unwrap();
        let port = free_port();
        write_settings(place.path(), subsystem, port);
        let child = run(&program, place.path());
        let mut server = Self {
            place,
            program,
            port,
            child,
        };
        server.wait_until_up();
        Some(server)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the path of a file of the server: its settings and keys, and `config` for clients.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Returns the directory for stores.
    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// Returns the command that connects to the server, quoted for a shell.
    pub(crate) fn ssh_command(&self) -> String {
        format!("ssh -F {}", self.path("config").display())
    }

    /// Returns the location (URL) of a directory below [`store`](Self::store).
    pub(crate) fn location(&self, name: &str) -> String {
        self.location_of(&self.store().join(name))
    }

    /// Returns the location (URL) of any directory on the server.
    pub(crate) fn location_of(&self, path: &Path) -> String {
        format!(
            "sftp://{}@127.0.0.1:{}/{}",
            user(),
            self.port,
            path.display()
        )
    }

    /// Returns the options with which a client opens [`store`](Self::store).
    pub(crate) fn options(&self) -> SftpOptions {
        SftpOptions {
            server: SftpServer {
                user: Some(user()),
                host: "127.0.0.1".to_owned(),
                port: Some(self.port),
            },
            path: self.store().to_str().unwrap().to_owned(),
            location: "sftp:test".to_owned(),
            ssh: self.ssh_command().split(' ').map(Into::into).collect(),
            connections: NonZeroUsize::new(2).unwrap(),
            timeout: TIMEOUT,
            cancel: Cancel::default(),
        }
    }

    /// Returns the processes that serve connections now.
    pub(crate) fn sessions(&self) -> Vec<Pid> {
        let mut found = vec![Pid::from_child(&self.child)];
        let all = processes();
        let mut at = 0;
        while let Some(&parent) = found.get(at) {
            found.extend(
                all.iter()
                    .filter(|(_, p)| *p == parent)
                    .map(|(pid, _)| *pid),
            );
            at += 1;
        }
        found.split_off(1)
    }

    /// Sends a signal to all processes that serve connections.
    pub(crate) fn signal(&self, signal: Signal) {
        for session in self.sessions() {
            // The process may have ended meanwhile.
            let _ = kill_process(session, signal);
        }
    }

    /// Suspends the server and all its connections with SIGSTOP, so that no client gets an answer.
    pub(crate) fn freeze(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
        self.signal(Signal::STOP);
    }

    /// Kills the server with all its connections, and starts it again.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.child = run(&self.program, self.place.path());
        self.wait_until_up();
    }

    pub(crate) fn stop(&mut self) {
        let sessions = self.sessions();
        let _ = self.child.kill();
        let _ = self.child.wait();
        for session in sessions {
            let _ = kill_process(session, Signal::KILL);
        }
    }

    /// Returns the number of running clients (ssh processes) of the server.
    pub(crate) fn clients(&self) -> usize {
        let config = self.path("config").display().to_string();
        let all = processes().into_iter();
        all.filter(|(pid, _)| {
            let words = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
            let words = words.unwrap_or_default();
            words.starts_with(b"ssh\0") && String::from_utf8_lossy(&words).contains(&config)
        })
        .count()
    }

    /// Waits until the server answers.
    fn wait_until_up(&mut self) {
        let begun = Instant::now();
        let speaks = || {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
            stream.set_read_timeout(Some(TIMEOUT)).ok()?;
            let mut hello = [0; 4];
            stream.read_exact(&mut hello).ok()?;
            (&hello == b"SSH-").then_some(())
        };
        while speaks().is_none() {
            let ended = self.child.try_wait().unwrap();
            let log = fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(ended.is_none(), "sshd has ended: {log}");
            assert!(begun.elapsed() < TIMEOUT, "sshd does not start: {log}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let mut programs = directories.map(|directory| directory.join("sshd"));
    programs.find(|program| program.is_file())
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn user() -> String {
    let name = Command::new("id").arg("-un").output().unwrap().stdout;
    String::from_utf8(name).unwrap().trim().to_owned()
}

fn write_settings(place: &Path, subsystem: &str, port: u16) {
    let at = |name: &str| place.join(name).display().to_string();
    let server = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\n\
        PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\n\
        KbdInteractiveAuthentication no\nMaxStartups 100\nSubsystem sftp {subsystem}\n",
        at("host"),
        at("user.pub"),
    );
    fs::write(place.join("sshd_config"), server).unwrap();
    let client = format!(
        "IdentityFile {}\nIdentitiesOnly yes\nIdentityAgent none\nUserKnownHostsFile {}\n\
        GlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\n",
        at("user"),
        at("known"),
    );
    fs::write(place.join("config"), client).unwrap();
    let key = fs::read_to_string(place.join("host.pub")).unwrap();
    fs::write(place.join("known"), format!("[127.0.0.1]:{port} {key}")).unwrap();
}

fn run(program: &Path, place: &Path) -> Child {
    let log = fs::File::create(place.join("log")).unwrap();
    Command::new(program)
        .arg("-D")
        .arg("-e")
        .arg("-f")
        .arg(place.join("sshd_config"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Returns the ids of all processes, each with the id of its parent.
fn processes() -> Vec<(Pid, Pid)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // proc(5): the name, in parentheses, may contain any characters.
            let (_, rest) = stat.rsplit_once(')')?;
            let parent: i32 = rest.split_whitespace().nth(1)?.parse().ok()?;
            Some((Pid::from_raw(pid)?, Pid::from_raw(parent)?))
        })
        .collect()
}
