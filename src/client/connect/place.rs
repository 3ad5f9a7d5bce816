//! Where a program on this machine finds a route: a loopback port or a Unix socket, and nothing that others can reach.

use crate::client::fault::Fault;
use crate::client::loopback::Loopback;
use crate::client::secrets::random;
use std::fs::DirBuilder;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixListener, UnixStream};

/// A route, and where it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlaceRequest {
    pub(super) route: String,
    at: Wanted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// Wherever the program finds it.
    Anywhere,
    /// This port on both loopback addresses; 0 for one that is free.
    Port(u16),
    At(Address),
}

/// An address that only this machine's programs can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A loopback address; port 0 until it is bound.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl FromStr for PlaceRequest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (route, place) = match text.split_once('=') {
            Some((route, place)) => (route, Some(place)),
            None => (text, None),
        };
        if route.is_empty() || !route.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
            let meant = route
                .split_once(':')
                .map(|(name, port)| format!("; write {name}={port}"))
                .unwrap_or_default();
            return Err(format!("{route:?} is no route name{meant}"));
        }
        let at = place.map_or(Ok(Wanted::Anywhere), str::parse)?;
        Ok(PlaceRequest { route: route.to_owned(), at })
    }
}

impl PlaceRequest {
    /// Puts a route that may be anywhere on a Unix socket, where programs of its protocol find one by their environment.
    pub(super) fn prefer_socket(
        &mut self,
        protocol: Option<&str>,
        folder: &mut SocketFolder,
    ) -> Result<(), Fault> {
        let name = match protocol {
            // The name by which PostgreSQL's clients know a socket, in the folder that they take for a host.
            Some("postgres") => ".s.PGSQL.5432",
            Some("mysql") => "mysql.sock",
            Some("redis") => "redis.sock",
            _ => return Ok(()),
        };
        if self.at == Wanted::Anywhere {
            self.at = Wanted::At(Address::Unix(folder.make(&self.route)?.join(name)));
        }
        Ok(())
    }
}

/// A folder for the sockets of one run, which only its owner can enter. It is made when it is needed, and removed when this
/// is dropped.
#[derive(Default)]
pub(super) struct SocketFolder(Option<PathBuf>);

impl SocketFolder {
    /// Makes a folder for a route's socket.
    fn make(&mut self, route: &str) -> Result<PathBuf, Fault> {
        let make = |path: &Path| {
            let fault = |error| Fault::Machine(format!("{}: {error}", path.display()));
            // Fails where somebody made it before: then it is not only ours.
            DirBuilder::new().mode(0o700).create(path).map_err(fault)
        };
        let root = match &self.0 {
            Some(root) => root.clone(),
            None => {
                let place =
                    std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
                let name: String = random().chars().take(12).collect();
                let root = place.unwrap_or_else(std::env::temp_dir).join(format!("staunch-{name}"));
                make(&root)?;
                self.0.insert(root).clone()
            }
        };
        let folder = root.join(route);
        make(&folder)?;
        Ok(folder)
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        if let Some(root) = &self.0 {
            // Somebody may have removed it already.
            let _ = std::fs::remove_dir_all(root);
        }
    }
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("unix: wants a path".into()),
                path => Ok(Wanted::At(Address::Unix(path.into()))),
            };
        }
        let port = text.strip_prefix("localhost:").or(text.strip_prefix(':')).unwrap_or(text);
        if let Ok(port) = port.parse() {
            return Ok(Wanted::Port(port));
        }
        let address: SocketAddr = text.parse().map_err(|_| {
            format!("{text:?} is no place; write a port, 127.0.0.1:PORT, [::1]:PORT or unix:PATH")
        })?;
        if !address.ip().is_loopback() {
            return Err(format!(
                "{address} can be reached from elsewhere; write a loopback address or unix:PATH"
            ));
        }
        Ok(Wanted::At(Address::Tcp(address)))
    }
}

/// A place that is listened on. A socket in the file system is removed when this is dropped.
pub(super) struct Place {
    listener: Listener,
    address: Address,
}

enum Listener {
    Tcp(Loopback),
    Unix(UnixListener),
}

/// A program's connection.
pub(super) enum Local {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What both kinds of connection can do.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {
    /// Ends it so that it does not look like a proper end, where the kind of socket can tell.
    fn reset(self);
}

impl Stream for TcpStream {
    fn reset(self) {
        // Where it cannot be set, the end merely looks better than it is.
        let _ = self.set_zero_linger();
    }
}

impl Stream for UnixStream {
    // Unix sockets know no reset: a reader sees an end either way.
    fn reset(self) {}
}

impl Place {
    pub(super) fn bind(request: &PlaceRequest) -> Result<Place, Fault> {
        let fault = |shown: String| {
            move |error: io::Error| {
                let advice = match error.kind() {
                    io::ErrorKind::AddrInUse => "; write another port, or 0 for any that is free",
                    io::ErrorKind::PermissionDenied => "; ports below 1024 are root's",
                    _ => "",
                };
                Fault::Machine(format!("{shown}: {error}{advice}"))
            }
        };
        let tcp = |loopback: Loopback| {
            let address = Address::Tcp(loopback.address());
            Place { listener: Listener::Tcp(loopback), address }
        };
        match &request.at {
            Wanted::Anywhere => Loopback::bind_both(0).map(tcp).map_err(fault("a free port".to_owned())),
            Wanted::Port(port) => Loopback::bind_both(*port).map(tcp).map_err(fault(format!("port {port}"))),
            Wanted::At(Address::Tcp(address)) => {
                Loopback::bind(*address).map(tcp).map_err(fault(address.to_string()))
            }
            Wanted::At(Address::Unix(path)) => {
                let fault = fault(path.display().to_string());
                remove_stale(path).map_err(&fault)?;
                // The mode is right from the first moment: nobody else can connect in between.
                let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
                let bound = UnixListener::bind(path);
                rustix::process::umask(before);
                let listener = Listener::Unix(bound.map_err(&fault)?);
                Ok(Place { listener, address: Address::Unix(path.clone()) })
            }
        }
    }

    pub(super) fn address(&self) -> Address {
        self.address.clone()
    }

    pub(super) async fn accept(&self) -> io::Result<Local> {
        match &self.listener {
            Listener::Tcp(listener) => {
                let tcp = listener.accept().await?;
                tcp.set_nodelay(true)?;
                Ok(Local::Tcp(tcp))
            }
            Listener::Unix(listener) => Ok(Local::Unix(listener.accept().await?.0)),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Address::Unix(path) = &self.address {
            // Somebody may have removed it already.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A socket on which nobody listens is what a killed program left; anything else in that place is somebody's.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "is there already, and no socket"))
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
            Err(error) => Err(error),
            Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens on it")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(text: &str) -> Result<PlaceRequest, String> {
        Ok(PlaceRequest { route: "r".into(), at: Wanted::At(Address::Tcp(text.parse().unwrap())) })
    }

    fn port(port: u16) -> Result<PlaceRequest, String> {
        Ok(PlaceRequest { route: "r".into(), at: Wanted::Port(port) })
    }

    #[test]
    fn routes_and_places_as_they_are_written() {
        let table = [
            ("r", Ok(PlaceRequest { route: "r".into(), at: Wanted::Anywhere })),
            ("r=0", port(0)),
            ("r=5432", port(5432)),
            ("r=:5432", port(5432)),
            ("r=localhost:5432", port(5432)),
            ("r=127.0.0.1:5432", tcp("127.0.0.1:5432")),
            ("r=127.0.0.2:5432", tcp("127.0.0.2:5432")),
            ("r=[::1]:5432", tcp("[::1]:5432")),
            (
                "r=unix:/run/x",
                Ok(PlaceRequest { route: "r".into(), at: Wanted::At(Address::Unix("/run/x".into())) }),
            ),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<PlaceRequest>(), expected, "{text}");
        }
    }

    #[test]
    fn places_that_others_could_reach_are_refused() {
        for text in [
            "r=0.0.0.0:1",
            "r=[::]:1",
            "r=192.0.2.1:1",
            "r=*:1",
            "r=example.com:1",
            "r=unix:",
            "=1",
            "a/b",
            "r=70000",
        ] {
            assert!(text.parse::<PlaceRequest>().is_err(), "{text}");
        }
    }

    #[test]
    fn databases_that_may_be_anywhere_are_put_into_a_folder_of_ones_own() {
        use std::os::unix::fs::PermissionsExt;
        let mut folder = SocketFolder::default();
        let socket = |folder: &mut SocketFolder, text: &str, protocol| {
            let mut request: PlaceRequest = text.parse().unwrap();
            request.prefer_socket(protocol, folder).unwrap();
            match request.at {
                Wanted::At(Address::Unix(path)) => Some(path),
                _ => None,
            }
        };
        let path = socket(&mut folder, "pg", Some("postgres")).unwrap();
        assert!(path.ends_with("pg/.s.PGSQL.5432"), "{}", path.display());
        let root = path.ancestors().nth(2).unwrap().to_owned();
        for made in [&root, path.parent().unwrap()] {
            assert_eq!(std::fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o700);
        }
        assert!(socket(&mut folder, "shop", Some("mysql")).unwrap().starts_with(&root));
        assert!(socket(&mut folder, "cache", Some("redis")).unwrap().starts_with(&root));
        for (text, protocol) in
            [("pg=0", Some("postgres")), ("app", Some("http")), ("raw", Some("raw")), ("away", None)]
        {
            assert_eq!(socket(&mut folder, text, protocol), None, "{text}");
        }
        drop(folder);
        assert!(!root.exists());
    }

    #[tokio::test]
    async fn a_socket_is_its_owners_alone_replaces_a_stale_one_and_goes_with_its_place() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let request: PlaceRequest = format!("r=unix:{}", path.display()).parse().unwrap();
        let place = Place::bind(&request).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Place::bind(&request).err().unwrap().to_string().contains("somebody listens on it"));
        drop(place);
        assert!(!path.exists());
        std::fs::write(&path, "mine").unwrap();
        assert!(Place::bind(&request).err().unwrap().to_string().contains("no socket"));
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }
}
