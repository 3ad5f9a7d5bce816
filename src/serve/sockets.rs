//! The listening sockets of a gateway, for clients and for the operator.

use super::service_manager;
use super::start_fault::{StartFault, system};
use crate::config::Loaded;
use crate::worker::{Bound, Layout, listen_fault};
use std::net::TcpListener;

/// The listening sockets of a gateway, bound, and how its workers are laid out.
pub struct Sockets {
    pub(super) layout: Layout,
    pub(super) admin: TcpListener,
    pub(super) bound: Bound,
}

impl Sockets {
    /// Takes over what the service manager holds, and binds the rest. `workers`: in place of the file's number.
    pub fn bind(loaded: &Loaded, workers: Option<usize>) -> Result<Self, StartFault> {
        let layout = Layout { count: workers.unwrap_or(loaded.workers.count), ..loaded.workers };
        let mut inherited = service_manager::inherited().map_err(system("cannot listen"))?;
        let address = loaded.admin.address;
        let admin = match inherited.take(address) {
            Some(listener) => Ok(listener),
            None => TcpListener::bind(address).map_err(|error| listen_fault(address, error)),
        };
        let admin = admin.map_err(system("cannot listen for the operator"))?;
        let bound = Bound::with_inherited(&loaded.gateway.listeners, layout, &mut inherited);
        let bound = bound.and_then(|bound| inherited.expect_none().map(|()| bound));
        let bound = bound.map_err(system("cannot listen"))?;
        Ok(Sockets { layout, admin, bound })
    }
}
