//! The control API's listening socket: bound, or given by systemd or by the daemon that ran before. Knows when the file of a
//! unix socket is to go, and never removes one that another daemon listens on.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::ApiError;
use crate::config::ControlListen;

/// Read and write for owner and group: the group of the socket is who may use it without sudo.
const SOCKET_MODE: u32 = 0o660;

/// A socket that listens.
#[derive(Debug)]
pub enum ControlSocket {
    /// On a port.
    Tcp(std::net::TcpListener),
    /// On a path, with its file.
    Unix(std::os::unix::net::UnixListener, Arc<SocketFile>),
}

/// The file of a unix socket, removed when nobody here needs it any more.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Another process listens on it.
    left: AtomicBool,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.left.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the control socket could not be removed");
        }
    }
}

impl ControlSocket {
    /// Takes the address.
    pub fn bind(listen: &ControlListen) -> Result<Self, ApiError> {
        match listen {
            ControlListen::Tcp(address) => bind_tcp(*address).map(Self::Tcp),
            ControlListen::Unix(path) => bind_unix(path).map(|listener| Self::unix(listener, path)),
            ControlListen::Router => Err(ApiError::OnTheRouter),
        }
    }

    /// A unix socket that listens on `path` already.
    pub fn unix(listener: std::os::unix::net::UnixListener, path: &Path) -> Self {
        let file = SocketFile {
            path: path.to_owned(),
            left: AtomicBool::new(false),
        };
        Self::Unix(listener, Arc::new(file))
    }

    /// The same socket once more.
    pub fn again(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(listener) => Self::Tcp(listener.try_clone()?),
            Self::Unix(listener, file) => Self::Unix(listener.try_clone()?, Arc::clone(file)),
        })
    }

    /// For another process.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(match self {
            Self::Tcp(listener) => listener.try_clone()?.into(),
            Self::Unix(listener, _) => listener.try_clone()?.into(),
        })
    }

    /// Another process listens on it by now: its file stays.
    pub fn leave(self) {
        if let Self::Unix(_, file) = self {
            file.left.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn bound(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }
}

fn bind_tcp(address: SocketAddr) -> Result<std::net::TcpListener, ApiError> {
    let failed = |source: io::Error| {
        let address = address.to_string();
        if source.kind() == io::ErrorKind::AddrInUse {
            ApiError::InUse { address }
        } else {
            ApiError::Listen { address, source }
        }
    };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Binds beside the path, sets the mode, and renames: nobody sees the socket with other permissions than its own, and a
/// stale one of a dead daemon is replaced without a gap.
fn bind_unix(path: &Path) -> Result<std::os::unix::net::UnixListener, ApiError> {
    let failed = |source| ApiError::Listen {
        address: format!("unix:{}", path.display()),
        source,
    };
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ApiError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(ApiError::InUse {
                address: format!("unix:{}", path.display()),
            });
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let bound = std::os::unix::net::UnixListener::bind(&beside).and_then(|listener| {
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(SOCKET_MODE))?;
        listener.set_nonblocking(true)?;
        std::fs::rename(&beside, path)?;
        Ok(listener)
    });
    bound.map_err(|error| {
        // nothing to remove if the bind itself failed; the error that counts is the first one
        drop(std::fs::remove_file(&beside));
        failed(error)
    })
}
