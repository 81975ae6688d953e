package edge

// canPeek: the straight way is for systems where it was measured.
const canPeek = true
