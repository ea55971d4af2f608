use std::{ffi::CString, os::fd::AsRawFd as _};

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::Namespace;

/// A feature of an interface that `ethtool -K` switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Offload {
    /// `tx`: checksums are left to the device (ETHTOOL_STXCSUM).
    TransmitChecksum = 0x17,
    /// `tso`: segmentation of TCP is left to the device (ETHTOOL_STSO).
    TcpSegmentation = 0x1f,
    /// `gso`: segmentation happens just before the device (ETHTOOL_SGSO).
    GenericSegmentation = 0x24,
}

#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

impl Namespace {
    /// Switches a feature of an interface on or off, as `ethtool -K` does.
    ///
    /// # Errors
    /// When there is no such interface or it cannot do that.
    pub fn offload(&self, interface: &str, feature: Offload, on: bool) -> Result<()> {
        let name = CString::new(interface)?;
        let bytes = name.as_bytes_with_nul();
        if bytes.len() > libc::IFNAMSIZ {
            bail!("interface name too long: {interface}");
        }
        self.enter(|| {
            let control = socket(
                AddressFamily::Inet,
                SockType::Datagram,
                SockFlag::SOCK_CLOEXEC,
                None,
            )?;
            let mut value = EthtoolValue {
                command: feature as u32,
                data: u32::from(on),
            };
            // SAFETY: all-zero bytes are a valid ifreq.
            let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
            for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
                *to = *from as libc::c_char;
            }
            request.ifr_ifru.ifru_data = (&raw mut value).cast();
            // SAFETY: the request and the value it points to live through the call.
            let answer = unsafe {
                libc::ioctl(
                    control.as_raw_fd(),
                    libc::SIOCETHTOOL as _,
                    &raw mut request,
                )
            };
            if answer != 0 {
                return Err(std::io::Error::last_os_error())
                    .with_context(|| format!("cannot switch {feature:?} of {interface}"));
            }
            Ok(())
        })
    }
}
