//! `staunch connect`: routes of a gateway as plaintext ports of this machine, for programs that know neither TLS nor tokens.
//!
//! ```text
//!   program ──▶ 127.0.0.1:5432 or a Unix socket ──▶ TLS ──▶ gateway: CONNECT warehouse + fresh token ──▶ route
//! ```
//! The listener outlives the gateway: while that is away, a new connection waits for some seconds. Nothing is opened for a
//! connection that says nothing and leaves, as health probes do. An end passes in both directions, and one that is not clean
//! resets the program's connection, so that a cut is never taken for the end.

mod exec;
mod http_guard;
mod peer;
mod place;
mod serve;
mod tunnel;
mod usage;

use super::fault::Fault;
use super::profile::Profile;
use super::secrets::random;
use super::terminal::say;
use crate::secret::Secret;
use http_guard::HttpGuard;
use place::{Address, Place, PlaceRequest, SocketFolder};
use serve::{LocalListener, serve};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};
use tunnel::{Gateway, NotOpened, Opened, end};
use usage::ExposedRoute;

/// `staunch connect`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Route, and where it is to be reached: `warehouse`, `warehouse=5432`, `warehouse=127.0.0.1:5432`,
    /// `warehouse=[::1]:5432`, `warehouse=unix:/run/user/1000/pg.sock`. Loopback and Unix sockets only. Where no place is named: a
    /// free port, or for databases with --exec a Unix socket (`warehouse=0` for a port there, too).
    #[arg(required = true, value_name = "ROUTE[=PLACE]")]
    routes: Vec<PlaceRequest>,
    /// The gateway's tunnel name, and its port if that is not 443 (or 8443, where nobody listens on 443).
    #[arg(long, env = "STAUNCH_GATEWAY", value_name = "NAME[:PORT]")]
    gateway: String,
    /// Where to connect in place of what the gateway's name resolves to.
    #[arg(long, value_name = "HOST:PORT")]
    connect_to: Option<String>,
    /// Authorities that vouch for the gateway, in PEM, in place of the system's.
    #[arg(long, env = "STAUNCH_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Which login the tokens are of.
    #[arg(long, env = "STAUNCH_PROFILE", value_name = "NAME", default_value_t)]
    profile: Profile,
    /// Ask programs on HTTP ports for a key that is made for this run, in the place of theirs. It is printed, and given to
    /// the program of --exec as OPENAI_API_KEY.
    #[arg(long)]
    require_key: bool,
    /// Let programs of other users of this machine connect to ports.
    #[arg(long)]
    any_user: bool,
    /// Say on standard error when a connection comes and goes.
    #[arg(long, short)]
    verbose: bool,
    /// Run a program with the places in its environment, and end with it. All that follows is its own.
    #[arg(long, value_name = "COMMAND", num_args = 1.., allow_hyphen_values = true)]
    exec: Vec<String>,
}

/// How long connections may go on after the first signal.
const DRAIN: Duration = Duration::from_secs(30);

/// Serves until a signal, or the program that was to be run, ends it. Returns the exit code.
pub async fn run(arguments: Arguments) -> Result<u8, Fault> {
    LocalSet::new().run_until(connect(arguments)).await
}

async fn connect(arguments: Arguments) -> Result<u8, Fault> {
    let Arguments { routes, gateway, connect_to, ca, profile, require_key, any_user, verbose, exec } =
        arguments;
    let key = require_key.then(random);
    let gateway = Rc::new(Gateway::new(&gateway, connect_to, ca.as_deref(), profile)?);
    let mut offers = Vec::new();
    let mut doors = Vec::new();
    let mut folder = SocketFolder::default();
    for mut request in routes {
        let protocol = match protocol_of(&gateway, &request.route).await? {
            Asked::Speaks(protocol) => protocol,
            // A program would find nothing at its first request, and blame itself.
            Asked::Away(why) if !exec.is_empty() => {
                return Err(Fault::Gateway {
                    address: gateway.shown(),
                    why: format!("{why}; the program was not run"),
                });
            }
            Asked::Away(why) => {
                say(&format!("staunch: {} is away: {why}; going on, it may come back", gateway.shown()));
                None
            }
        };
        if !exec.is_empty() {
            request.prefer_socket(protocol.as_deref(), &mut folder)?;
        }
        let place = Place::bind(&request)?;
        let guard = matches!(place.address(), Address::Tcp(_)).then(|| {
            let secret = key.as_ref().map(|key| Secret::new(key.clone().into_bytes()));
            Rc::new(HttpGuard { secret })
        });
        let offer = Rc::new(ExposedRoute::new(request.route, protocol, place.address(), key.clone()));
        offers.push(offer.clone());
        // A program that is run has the standard output to itself.
        let announces = exec.is_empty();
        doors.push((
            place,
            Rc::new(LocalListener { gateway: gateway.clone(), offer, announces, verbose, any_user, guard }),
        ));
    }
    let (open, closed) = tokio::sync::watch::channel(());
    let mut serving = tokio::task::JoinSet::new();
    for (place, door) in doors {
        serving.spawn_local(serve(place, door, closed.clone()));
    }
    drop(closed);
    if let Some((program, arguments)) = exec.split_first() {
        let code = exec::run(program, arguments, usage::environment(&offers)).await;
        serving.shutdown().await;
        return code;
    }
    usage::print(offers.iter().map(|offer| &**offer))?;
    wait_for_signal().await?;
    drop(open);
    say("staunch: no new connections; the rest may finish (once more: end now)");
    let finished = async { while serving.join_next().await.is_some() {} };
    let ended = tokio::select! {
        ended = timeout(DRAIN, finished) => ended.is_ok(),
        told = wait_for_signal() => told.is_err(),
    };
    // Sockets in the file system go with what listens on them.
    serving.shutdown().await;
    Ok(u8::from(!ended))
}

/// What a gateway said of a route.
enum Asked {
    /// What it speaks, if the gateway said so.
    Speaks(Option<String>),
    /// Nothing: it is away.
    Away(String),
}

/// What a route speaks, asked of the gateway: who may not use it hears so at once. While the gateway is away, the first tunnel
/// tells it later.
async fn protocol_of(gateway: &Gateway, route: &str) -> Result<Asked, Fault> {
    match gateway.open(route).await {
        Ok(Opened { tls, protocol }) => {
            end(tls).await;
            Ok(Asked::Speaks(protocol))
        }
        Err(NotOpened::Away(why)) => Ok(Asked::Away(why)),
        Err(NotOpened::Token(fault)) => Err(fault),
        Err(NotOpened::Refused(why)) => {
            Err(Fault::Gateway { address: gateway.shown(), why: format!("route {route}: {why}") })
        }
    }
}

/// Asks a gateway whether this user's token opens a route; for `staunch whoami`.
pub(super) async fn try_route(
    gateway: &str,
    ca: Option<&Path>,
    profile: Profile,
    route: &str,
) -> Result<String, Fault> {
    let ask = async {
        let gateway = Gateway::new(gateway, None, ca, profile)?;
        match protocol_of(&gateway, route).await? {
            Asked::Speaks(protocol) => Ok(protocol.unwrap_or_else(|| "unknown".into())),
            Asked::Away(why) => Err(Fault::Gateway { address: gateway.shown(), why }),
        }
    };
    LocalSet::new().run_until(ask).await
}

/// Waits for INT or TERM.
async fn wait_for_signal() -> Result<(), Fault> {
    let hear = |kind| signal(kind).map_err(|error| Fault::Machine(format!("signals: {error}")));
    let (mut interrupt, mut terminate) = (hear(SignalKind::interrupt())?, hear(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    // One key press may come as two.
    sleep(Duration::from_millis(50)).await;
    Ok(())
}
