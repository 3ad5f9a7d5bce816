//! A PostgreSQL server of this run: TLS, a stored account with a password, one without.

use crate::Outcome;
use crate::peers;
use crate::pki::Pki;
use staunch::demo::ca::Folder;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The account that gets in without a password, past the gateway and through the raw route.
pub(crate) const OPEN: &str = "open";
/// What the gateway's stored account has for a password.
pub(crate) const PASSWORD: &str = "sk-stored-for-the-upstream";
/// How long the server may take to start, and to end.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A running server; it ends with this value.
pub(crate) struct Server {
    child: Child,
    pub(crate) at: SocketAddr,
    pub(crate) version: String,
    bin: PathBuf,
    owner: Option<(u32, u32)>,
    folder: Folder,
}

impl Server {
    /// Starts a server that shows the certificate of `pki`.
    pub(crate) fn start(pki: &Pki) -> Outcome<Server> {
        let bin = programs()?;
        let (folder, at) = (Folder::new()?, peers::free()?);
        let owner =
            rustix::process::geteuid().is_root().then(|| user_of(&["postgres", "nobody"])).transpose()?;
        for (name, source) in [("server.pem", "chain.pem"), ("server.key", "key.pem")] {
            let file = folder.path().join(name);
            fs::copy(pki.file(source), &file)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
            give(&file, owner)?;
        }
        give(folder.path(), owner)?;
        let data = folder.path().join("data");
        let mut initdb = Command::new(bin.join("initdb"));
        initdb.arg("-D").arg(&data).args(["-U", "admin", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]);
        done(as_owner(&mut initdb, owner), folder.path())?;
        let here = folder.path().display();
        fs::write(
            data.join("pg_hba.conf"),
            format!(
                "local all all trust\nhostssl all {OPEN} 127.0.0.1/32 trust\nhostssl all stored 127.0.0.1/32 scram-sha-256\n"
            ),
        )?;
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{here}'\nssl = on\n\
             ssl_cert_file = '{here}/server.pem'\nssl_key_file = '{here}/server.key'\nssl_prefer_server_ciphers = off\n\
             fsync = off\nsynchronous_commit = off\nmax_wal_size = '4GB'\nshared_buffers = '128MB'\n\
             max_connections = 200\nautovacuum = off\n",
            at.port()
        );
        fs::write(data.join("postgresql.auto.conf"), settings)?;
        let log = fs::File::create(pki.file("postgres.out"))?;
        let mut postgres = Command::new(bin.join("postgres"));
        postgres
            .arg("-D")
            .arg(&data)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = as_owner(&mut postgres, owner).spawn()?;
        let version = done(Command::new(bin.join("postgres")).arg("--version"), Path::new("/"))?;
        let mut server = Server { child, at, version: version.trim().to_owned(), bin, owner, folder };
        let started = Instant::now();
        while server.admin("select 1").is_err() {
            if server.child.try_wait()?.is_some() || started.elapsed() > START_TIMEOUT {
                let said = fs::read_to_string(pki.file("postgres.out")).unwrap_or_default();
                return Err(format!("PostgreSQL did not come up:\n{said}").into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        server.admin(&format!(
            "create role {OPEN} login superuser; create role stored login superuser password '{PASSWORD}'"
        ))?;
        Ok(server)
    }

    /// Where the server's own programs are.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// Where its files are, which its user can read.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a file there.
    pub(crate) fn give(&self, name: &str, text: &str) -> Outcome<()> {
        Ok(give(&self.folder.write(name, text)?, self.owner)?)
    }

    /// A program that runs as the server's user.
    pub(crate) fn owned(&self, mut command: Command) -> Command {
        as_owner(&mut command, self.owner);
        command
    }

    /// Fills pgbench's tables.
    pub(crate) fn fill(&self) -> Outcome<()> {
        let mut command = Command::new(self.program("pgbench"));
        command.args(["-i", "-q", "-s", "5", "-U", "admin", "-p", &self.at.port().to_string(), "-h"]);
        command.arg(self.folder.path()).arg("postgres");
        done(as_owner(&mut command, self.owner), Path::new("/")).map(drop)
    }

    /// Runs SQL past everything.
    pub(crate) fn admin(&self, sql: &str) -> Outcome<String> {
        let mut command = Command::new(self.program("psql"));
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "admin", "-d", "postgres", "-c", sql, "-h"]);
        command.arg(self.folder.path()).args(["-p", &self.at.port().to_string()]);
        done(as_owner(&mut command, self.owner), Path::new("/"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        use rustix::process::{Pid, Signal, kill_process};
        // SIGINT: PostgreSQL's "fast" end, which leaves no shared memory behind.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Failing means that it has ended already.
            let _ = kill_process(pid, Signal::INT);
        }
        let started = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if started.elapsed() > START_TIMEOUT {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Where the newest server's programs are.
pub(crate) fn programs() -> Outcome<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in fs::read_dir("/usr/lib/postgresql").into_iter().flatten() {
        let bin = entry?.path().join("bin");
        let major = bin.parent().and_then(|folder| folder.file_name()?.to_str()?.parse().ok());
        if let Some(major) = major.filter(|_| bin.join("postgres").is_file()) {
            found.push((major, bin));
        }
    }
    let missing =
        "PostgreSQL's server is not installed: postgresql (or its programs are not in /usr/lib/postgresql)";
    Ok(found.into_iter().max().map(|(_, bin)| bin).ok_or(missing)?)
}

/// The first of these users that there is. Servers do not start as root; their packages make users for them.
pub(crate) fn user_of(names: &[&str]) -> Outcome<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd")?;
    for wanted in names {
        let line = users.lines().find(|line| line.split(':').next() == Some(*wanted));
        let mut fields = line.into_iter().flat_map(|line| line.split(':').skip(2));
        if let (Some(uid), Some(gid)) = (fields.next(), fields.next()) {
            return Ok((uid.parse()?, gid.parse()?));
        }
    }
    Err(format!("servers do not start as root, and there is no user {}", names.join(" or ")).into())
}

fn give(path: &Path, owner: Option<(u32, u32)>) -> std::io::Result<()> {
    owner.map_or(Ok(()), |(uid, gid)| chown(path, Some(uid), Some(gid)))
}

fn as_owner(command: &mut Command, owner: Option<(u32, u32)>) -> &mut Command {
    if let Some((uid, gid)) = owner {
        command.uid(uid).gid(gid);
    }
    command
}

fn done(command: &mut Command, folder: &Path) -> Outcome<String> {
    let done = command.current_dir(folder).stdin(Stdio::null()).output()?;
    if !done.status.success() {
        let program = Path::new(command.get_program()).display().to_string();
        return Err(format!("{program}: {}", String::from_utf8_lossy(&done.stderr).trim()).into());
    }
    Ok(String::from_utf8(done.stdout)?)
}
