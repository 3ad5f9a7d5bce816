//! Starts what stands between the two ends: a process of its own, pinned to its own cores, with a configuration from
//! `loadtest/peers/` that does the same work as the others'.

use crate::Outcome;
use crate::options::{Common, Peer, Pq};
use crate::pki::Pki;
use rustix::thread::CpuSet;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A running peer; it ends with this value.
pub(crate) struct Running {
    child: Child,
    pub(crate) at: SocketAddr,
    pub(crate) version: String,
    /// It makes a thread for each connection, so that live threads do not tell all it used.
    pub(crate) threads_end: bool,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Failing means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a configuration is written as: (file, text).
pub(crate) type Template = (&'static str, &'static str);

const STAUNCH: Template = ("staunch.toml", include_str!("../peers/staunch.toml"));
const STAUNCH_RECORDING: Template = (
    "staunch-recording.toml",
    concat!(include_str!("../peers/staunch.toml"), include_str!("../peers/recording.toml")),
);
const NGINX: Template = ("nginx.conf", include_str!("../peers/nginx.conf"));
const HAPROXY: Template = ("haproxy.cfg", include_str!("../peers/haproxy.cfg"));
const HAPROXY_JWT: Template = ("haproxy-jwt.cfg", include_str!("../peers/haproxy-jwt.cfg"));
const ENVOY: Template = ("envoy.yaml", include_str!("../peers/envoy.yaml"));
const ENVOY_JWT: Template = ("envoy-jwt.yaml", include_str!("../peers/envoy-jwt.yaml"));
const STUNNEL: Template = ("stunnel.conf", include_str!("../peers/stunnel.conf"));

/// How long a peer may take until it accepts connections.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Where the peer's program is; an error names what to install.
pub(crate) fn program(peer: Peer, common: &Common) -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|e| format!("this program's own path: {e}"))?;
    match peer {
        Peer::Direct | Peer::Plain | Peer::Tls => Ok(own),
        Peer::Staunch | Peer::StaunchRecording => {
            let path = common.staunch.clone().unwrap_or_else(|| own.with_file_name("staunch"));
            let missing = || format!("{}: build it with `cargo build --release`", path.display());
            path.is_file().then(|| path.clone()).ok_or_else(missing)
        }
        Peer::Nginx => find("nginx", "nginx and libnginx-mod-stream"),
        Peer::Haproxy | Peer::HaproxyJwt => find("haproxy", "haproxy"),
        Peer::Envoy | Peer::EnvoyJwt => find("envoy", "envoy (loadtest/peers/install)"),
        Peer::Stunnel => find("stunnel", "stunnel4"),
    }
}

pub(crate) fn find(name: &str, package: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = [PathBuf::from("loadtest/.tools/bin"), "/usr/sbin".into(), "/usr/local/sbin".into()];
    std::env::split_paths(&path)
        .chain(own)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| format!("{name} is not installed: {package}"))
}

/// Starts a peer in front of `upstream`.
pub(crate) fn start(peer: Peer, common: &Common, pki: &Pki, upstream: SocketAddr) -> Outcome<Running> {
    let program = program(peer, common)?;
    let at = free()?;
    let mut command = Command::new(&program);
    let mut log = pki.file(&format!("{}-{}.log", peer.name(), at.port()));
    let mut values = values(common, pki, upstream, at)?;
    if peer == Peer::Nginx {
        values.insert("module", module(&program)?);
    }
    let configured = |template: Template| write(template, &values, pki, at);
    match peer {
        Peer::Direct => return Err("nothing is started for a direct run".into()),
        Peer::Plain | Peer::Tls => return built_in(peer, common, pki, upstream),
        Peer::Staunch => serves(&mut command, &program, configured(STAUNCH)?)?,
        Peer::StaunchRecording => serves(&mut command, &program, configured(STAUNCH_RECORDING)?)?,
        Peer::Nginx => {
            let file = configured(NGINX)?;
            log = pki.file(&format!("nginx-{}-error.log", at.port()));
            command.arg("-p").arg(pki.folder.path()).arg("-c").arg(file).arg("-e").arg(&log);
        }
        Peer::Haproxy => _ = command.arg("-db").arg("-f").arg(configured(HAPROXY)?),
        Peer::HaproxyJwt => _ = command.arg("-db").arg("-f").arg(configured(HAPROXY_JWT)?),
        Peer::Envoy | Peer::EnvoyJwt => {
            let file = configured(if peer == Peer::Envoy { ENVOY } else { ENVOY_JWT })?;
            let workers = common.peer_cores.len().to_string();
            command.args(["--disable-hot-restart", "--log-level", "error", "--concurrency", &workers]);
            command.arg("-c").arg(file);
        }
        Peer::Stunnel => _ = command.arg(configured(STUNNEL)?),
    }
    // Staunch says that it is ready once it has its issuer's keys; others listen when they are.
    let probe: SocketAddr = if peer.is_staunch() { values["admin"].parse()? } else { at };
    launch(peer, common, pki, (command, program), (at, probe), log)
}

/// Starts Staunch with a configuration of one's own. `more` are values beside the usual ones.
pub(crate) fn gateway(
    common: &Common,
    pki: &Pki,
    template: (&'static str, &'static str),
    upstream: SocketAddr,
    more: &[(&'static str, String)],
) -> Outcome<Running> {
    gateway_with(common, pki, template, upstream, more, true)
}

/// The same, with a log that goes into a pipe that nobody reads.
pub(crate) fn gateway_unread(
    common: &Common,
    pki: &Pki,
    template: (&'static str, &'static str),
    upstream: SocketAddr,
    more: &[(&'static str, String)],
) -> Outcome<Running> {
    gateway_with(common, pki, template, upstream, more, false)
}

fn gateway_with(
    common: &Common,
    pki: &Pki,
    template: (&'static str, &'static str),
    upstream: SocketAddr,
    more: &[(&'static str, String)],
    is_log_read: bool,
) -> Outcome<Running> {
    let program = program(Peer::Staunch, common)?;
    let at = free()?;
    let mut values = values(common, pki, upstream, at)?;
    values.extend(more.iter().cloned());
    let mut command = Command::new(&program);
    serves(&mut command, &program, write(template, &values, pki, at)?)?;
    let log = pki.file(&format!("staunch-{}.log", at.port()));
    let probe = values["admin"].parse()?;
    launch_with(Peer::Staunch, common, pki, (command, program), (at, probe), log, is_log_read)
}

fn serves(command: &mut Command, program: &Path, file: PathBuf) -> Outcome<()> {
    let check = Command::new(program).arg("check").arg("--config").arg(&file).output()?;
    if !check.status.success() {
        return Err(format!("staunch check: {}", String::from_utf8_lossy(&check.stderr)).into());
    }
    command.arg("serve").arg("--config").arg(file);
    Ok(())
}

/// Starts a peer that will listen at `at` and be ready when `probe` says so.
fn launch(
    peer: Peer,
    common: &Common,
    pki: &Pki,
    (command, program): (Command, PathBuf),
    (at, probe): (SocketAddr, SocketAddr),
    log: PathBuf,
) -> Outcome<Running> {
    launch_with(peer, common, pki, (command, program), (at, probe), log, true)
}

fn launch_with(
    peer: Peer,
    common: &Common,
    pki: &Pki,
    (mut command, program): (Command, PathBuf),
    (at, probe): (SocketAddr, SocketAddr),
    log: PathBuf,
    is_output_read: bool,
) -> Outcome<Running> {
    let output = File::create(pki.file(&format!("{}-{}.out", peer.name(), at.port())))?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    if !is_output_read {
        // The child's end stays open as long as the child is held, and nobody reads.
        command.stdout(Stdio::piped());
    }
    let child = pinned(&common.peer_cores, || command.spawn())
        .map_err(|e| format!("{} does not start: {e}", program.display()))?;
    let version = version(peer, &program);
    let mut running = Running { child, at, version, threads_end: peer == Peer::Stunnel };
    let started = Instant::now();
    while !ready(peer, probe) {
        if running.child.try_wait()?.is_some() || started.elapsed() > START_TIMEOUT {
            let out = pki.file(&format!("{}-{}.out", peer.name(), at.port()));
            let said =
                [out, log].iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect::<String>();
            let tail: Vec<&str> = said.lines().rev().take(8).collect();
            return Err(format!("{} did not come up:\n{}", peer.name(), tail.join("\n")).into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(running)
}

/// Starts a program that is no [`Peer`], and waits until it listens at `at`.
pub(crate) fn launch_other(
    common: &Common,
    pki: &Pki,
    name: &str,
    (mut command, program): (Command, PathBuf),
    at: SocketAddr,
) -> Outcome<Running> {
    let out = pki.file(&format!("{name}-{}.out", at.port()));
    let output = File::create(&out)?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let child = pinned(&common.peer_cores, || command.spawn())
        .map_err(|e| format!("{} does not start: {e}", program.display()))?;
    let said = Command::new(&program).arg(if name == "haproxy" { "-vv" } else { "--version" }).output()?;
    let version = version_in(&String::from_utf8_lossy(&said.stdout));
    let mut running = Running { child, at, version, threads_end: false };
    let started = Instant::now();
    while TcpStream::connect_timeout(&at, Duration::from_millis(200)).is_err() {
        if running.child.try_wait()?.is_some() || started.elapsed() > START_TIMEOUT {
            return Err(format!("{name} did not come up:\n{}", std::fs::read_to_string(out)?).into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(running)
}

/// The same with a configuration from `loadtest/peers/`, whose file is the last argument.
pub(crate) fn program_of_template(
    common: &Common,
    pki: &Pki,
    name: &str,
    arguments: &[&str],
    template: Template,
    upstream: SocketAddr,
) -> Outcome<Running> {
    let (program, at) = (find(name, name)?, free()?);
    let file = write(template, &values(common, pki, upstream, at)?, pki, at)?;
    let mut command = Command::new(&program);
    command.args(arguments).arg(file);
    launch_other(common, pki, name, (command, program), at)
}

fn ready(peer: Peer, probe: SocketAddr) -> bool {
    use std::io::{Read, Write};
    let Ok(mut tcp) = TcpStream::connect_timeout(&probe, Duration::from_millis(200)) else { return false };
    if !peer.is_staunch() {
        return true;
    }
    let mut answer = String::new();
    let asked = tcp.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let heard =
        tcp.set_read_timeout(Some(Duration::from_secs(1))).and_then(|()| tcp.read_to_string(&mut answer));
    asked.is_ok() && heard.is_ok() && answer.starts_with("HTTP/1.1 200")
}

fn built_in(peer: Peer, common: &Common, pki: &Pki, upstream: SocketAddr) -> Outcome<Running> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["relay", "--upstream", &upstream.to_string()]);
    if peer == Peer::Tls {
        let pq = match common.secure.pq {
            Pq::Off => "off",
            Pq::Prefer => "prefer",
            Pq::Require => "require",
        };
        command.arg("--folder").arg(pki.folder.path()).args(["--relay-pq", pq]);
    }
    let mut child =
        pinned(&common.peer_cores, || command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn())?;
    let output = child.stdout.take();
    let version = format!("built in, {}", env!("CARGO_PKG_VERSION"));
    let mut running = Running { child, at: upstream, version, threads_end: false };
    let mut line = String::new();
    BufReader::new(output.ok_or("the relay has no output")?).read_line(&mut line)?;
    running.at = line.trim().parse().map_err(|_| "the built-in relay did not start")?;
    Ok(running)
}

/// Runs `spawn` with this thread on the peer's cores, which the child inherits.
fn pinned<T>(cores: &[usize], spawn: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
    use rustix::thread::{sched_getaffinity, sched_setaffinity};
    let before = sched_getaffinity(None)?;
    pin(cores)?;
    let spawned = spawn();
    sched_setaffinity(None, &before)?;
    spawned
}

/// The cores that this program was started with. Asked before it is pinned: afterwards only its own are left.
pub(crate) fn cores() -> &'static CpuSet {
    static CORES: OnceLock<CpuSet> = OnceLock::new();
    CORES.get_or_init(|| rustix::thread::sched_getaffinity(None).unwrap_or_default())
}

/// Pins this thread to those of `wanted` that there are; where there are none of them, to nothing.
pub(crate) fn pin(wanted: &[usize]) -> std::io::Result<()> {
    let there = cores();
    let mut set = CpuSet::new();
    wanted.iter().filter(|core| there.is_set(**core)).for_each(|core| set.set(*core));
    rustix::thread::sched_setaffinity(None, if set.count() > 0 { &set } else { there })
        .map_err(std::io::Error::from)
}

/// Ports of peers lie below the kernel's range for outgoing connections, so that none of the load's own takes one before
/// its peer does. Each is handed out once.
pub(crate) fn free() -> Outcome<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 18_000;
    const COUNT: u16 = 12_000;
    // Two runs at a time begin at different places.
    let begin = u16::try_from(std::process::id() % u32::from(COUNT))?;
    for _ in 0..COUNT {
        let port = FIRST + (begin + NEXT.fetch_add(1, Relaxed) % COUNT) % COUNT;
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(at).is_ok() {
            return Ok(at);
        }
    }
    Err("no port is free from 18000 to 29999".into())
}

/// The set of rules of `--mask`.
const MASKS: &str = "[[mask]]\nname = \"load\"\ndetect = [\"personal\", \"keys\"]\n";

fn values(
    common: &Common,
    pki: &Pki,
    upstream: SocketAddr,
    at: SocketAddr,
) -> Outcome<BTreeMap<&'static str, String>> {
    let (pq, groups) = match common.secure.pq {
        Pq::Off => ("off", "X25519"),
        Pq::Prefer => ("prefer", "X25519MLKEM768"),
        Pq::Require => ("require", "X25519MLKEM768"),
    };
    let secret = pki.file("stored.key");
    if !secret.exists() {
        pki.folder.write("stored.key", "sk-stored-for-the-upstream")?;
    }
    Ok(BTreeMap::from([
        ("listen", at.to_string()),
        ("port", at.port().to_string()),
        ("middle", free()?.to_string()),
        ("admin", free()?.to_string()),
        ("upstream", upstream.to_string()),
        ("upstream_port", upstream.port().to_string()),
        ("folder", pki.folder.path().display().to_string()),
        ("issuer", pki.issuer.url().to_owned()),
        ("workers", common.peer_cores.len().to_string()),
        ("busy_poll", common.busy_poll.clone().unwrap_or_else(|| "0ms".into())),
        ("busy_polling", common.busy_poll.as_ref().map_or("", |_| "busy-polling").to_owned()),
        ("mask", common.mask.map_or("", |_| "mask = { down = [\"load\"] }").to_owned()),
        ("masks", common.mask.map_or("", |_| MASKS).to_owned()),
        ("pq", pq.to_owned()),
        ("groups", groups.to_owned()),
        ("jwks", pki.issuer.jwks().to_string()),
    ]))
}

fn write(
    (name, text): Template,
    values: &BTreeMap<&'static str, String>,
    pki: &Pki,
    at: SocketAddr,
) -> Outcome<PathBuf> {
    let mut text = text.to_owned();
    for (key, value) in values {
        text = text.replace(&format!("@{key}@"), value);
    }
    Ok(pki.folder.write(&format!("{}-{name}", at.port()), &text)?)
}

/// The line of nginx's configuration that loads its stream module, where that is not built in (Debian's is not).
fn module(nginx: &Path) -> Outcome<String> {
    const LOAD: &str = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;";
    let built = Command::new(nginx).arg("-V").output()?.stderr;
    let apart = String::from_utf8_lossy(&built).contains("--with-stream=dynamic");
    Ok(if apart { LOAD.to_owned() } else { String::new() })
}

/// What the peer says of itself and, where it says so, of its TLS library.
fn version(peer: Peer, program: &Path) -> String {
    let flag = match peer {
        Peer::Nginx => "-V",
        Peer::Haproxy | Peer::HaproxyJwt => "-vv",
        Peer::Stunnel => "-version",
        _ => "--version",
    };
    let Ok(out) = Command::new(program).arg(flag).output() else { return "unknown".into() };
    version_in(&format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)))
}

fn version_in(said: &str) -> String {
    const LIBRARY: [&str; 4] = [
        "built with ",
        "Running on OpenSSL version : ",
        "Running on SSL library version : ",
        "Running  with ",
    ];
    let line = said.lines().find(|line| line.chars().any(|c| c.is_ascii_digit())).unwrap_or("unknown");
    let line = line.rsplit_once("version: ").map_or(line, |(_, rest)| rest).trim();
    let library = said.lines().find_map(|line| LIBRARY.iter().find_map(|before| line.strip_prefix(before)));
    library.map_or_else(|| line.to_owned(), |library| format!("{line}, {}", library.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_names_the_tls_library() {
        let nginx = "nginx version: nginx/1.22.1\nbuilt with OpenSSL 3.0.19 27 Jan 2026\nTLS SNI\n";
        assert_eq!(version_in(nginx), "nginx/1.22.1, OpenSSL 3.0.19 27 Jan 2026");
        let haproxy = "HAProxy version 2.6.12 2023/03/28\nRunning on OpenSSL version : OpenSSL 3.0.19\n";
        assert_eq!(version_in(haproxy), "HAProxy version 2.6.12 2023/03/28, OpenSSL 3.0.19");
        assert_eq!(version_in("staunch 0.1.0\n"), "staunch 0.1.0");
    }

    #[test]
    fn a_peer_stands_on_its_own_core_though_the_load_is_pinned_before() {
        let there: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| cores().is_set(*core)).collect();
        let [first, .., last] = there[..] else { panic!("this needs two cores, there are {there:?}") };
        pin(&[first]).unwrap();
        let shown = pinned(&[last], || Command::new("cat").arg("/proc/self/status").output()).unwrap();
        let status = String::from_utf8(shown.stdout).unwrap();
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
        assert_eq!(allowed.trim(), last.to_string());
        let own = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        assert!(own.contains(&format!("Cpus_allowed_list:\t{first}\n")), "the load went along");
    }
}
