//! lvx on real traffic: network namespaces, real clients and real servers.
//!
//! | module | holds |
//! | --- | --- |
//! | [`lab`] | namespaces, processes, links and the topologies made of them |
//! | [`decap`] | `lvx decap` on a real server |
//! | [`director`] | `lvx` run in a namespace: start, `ipvsadm`, kill, restart |
//! | [`chaos`] | the daemon killed at random moments |
//! | [`datagram`] | an echo over UDP |
//! | [`http`] | an HTTP client that counts, and requests at a steady rate |
//! | [`transfer`] | large downloads and uploads by curl, compared |
//! | [`packet`] | hand-made frames, a packet socket, echo requests |
//! | [`kernel`] | the program loaded for trials: frames in, verdict and bytes out |
//! | [`listing`] | what `ipvsadm` printed, as values |
//! | [`xdp`] | tiny XDP programs that are not ours |
//!
//! Everything is made in namespaces of its own and taken away by `Drop`, also
//! when a test panics. It needs root and says so; nothing is skipped.

pub mod chaos;
pub mod datagram;
pub mod decap;
pub mod director;
pub mod http;
pub mod kernel;
pub mod lab;
pub mod listing;
pub mod packet;
pub mod transfer;
pub mod xdp;
