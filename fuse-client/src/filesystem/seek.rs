//! lseek(2) with SEEK_DATA and SEEK_HOLE. Dirty bytes are committed first, so extents tell it all.

use std::sync::Arc;

use cairn_common::client::ClientError;
use cairn_common::extent::ExtentContent;
use cairn_common::ids::RequestId;
use cairn_common::protocol::FsError;

use super::Filesystem;
use crate::open_files::FileHandle;

impl Filesystem {
    /// The first offset of data (`data`) or of a hole from `offset` on; the end of the file is a hole.
    pub async fn seek(
        self: &Arc<Self>,
        request: RequestId,
        handle: &FileHandle,
        offset: u64,
        data: bool,
    ) -> Result<u64, ClientError> {
        let file = handle.file();
        self.flush_file(request, file).await?;
        let attributes = self.attributes(request, file.inode).await?;
        if offset >= attributes.size {
            return Err(FsError::NoSuchOffset.into());
        }
        let mut at = offset;
        while at < attributes.size {
            let range = (at, attributes.size);
            let (extents, to) = self.extents_page(request, file, Some(attributes.data_version), range).await?;
            for extent in extents.iter().filter(|extent| !matches!(extent.content, ExtentContent::Unwritten)) {
                if data {
                    return Ok(extent.offset.max(at));
                }
                if extent.offset > at {
                    return Ok(at);
                }
                at = extent.end();
            }
            if !data && at < to {
                return Ok(at);
            }
            at = to;
        }
        if data { Err(FsError::NoSuchOffset.into()) } else { Ok(attributes.size) }
    }
}
