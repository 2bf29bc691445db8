//! Storage on other machines against real servers.

mod clouds;
mod playground;
mod rest;
mod s3;
mod s3_proxy;
mod sftp;
mod tls;
mod webdav;
