/// Flight recorder events: one for every read and every copy. They cost nothing while nobody records.
package io.instanttensor.jfr;
