"""What tests of several rooms share: disks that fail, and the like."""
