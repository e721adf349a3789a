"""What has been imported stays: the collector need not look at it again, here and in every fork."""

import gc

gc.collect()
gc.freeze()
