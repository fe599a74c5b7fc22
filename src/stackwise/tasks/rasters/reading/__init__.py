"""From files and arrays to scenes: windows of bands, what is valid in them, their grid."""
