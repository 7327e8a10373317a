"""From a recording and its transcript to the emotions in it: files, and a page to look at and listen to."""
