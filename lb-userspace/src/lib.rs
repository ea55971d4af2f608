//! lvx in user space: the configuration and who may change it, the loader of
//! the data plane, netlink, and the command lines.
//!
//! | module | holds |
//! | --- | --- |
//! | [`model`] | services and servers as people configure them; requests and answers |
//! | [`ipvsadm`] | the `ipvsadm` grammar and its listings: arguments to requests, answers to text |
//! | [`config`] | configurations as files (`lvx.toml`), and the difference of two |
//! | [`netlink`] | where servers are: routes, neighbours, links; what bypasses netfilter |
//! | [`dataplane`] | the loaded program and its maps, the only module that knows aya |
//! | [`health`] | health checks: what is asked of servers, and who asks |
//! | [`rules`] | mark and filter rules: their words, their text, what packets read |
//! | [`migrate`] | where clients go by a kernel's saved rules, and by lvx |
//! | [`real_server`] | what a real server needs for its method |
//! | [`capture`] | the packets of `lvx capture`: filter, lines, files |
//! | [`daemon`] | `lvx run`: the one writer of the configuration, the control socket |
//! | [`cli`] | the verbs of `lvx` |

mod address;
pub mod capture;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod dataplane;
#[cfg(any(test, fuzzing))]
pub mod garbage;
pub mod health;
pub mod ipvsadm;
pub mod migrate;
pub mod model;
pub mod netlink;
mod netns;
pub mod real_server;
pub mod rules;
